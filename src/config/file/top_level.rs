//! The names at the top of a file: `[defaults]` and `[[port]]`, and what users write instead.

use toml::de::DeValue;

use crate::config::invalid::Invalid;
use crate::config::option::OptionSpec;
use crate::config::process_options::PROCESS_OPTIONS;
use crate::config::raw_options::meant_key;
use crate::suggest;

/// The tables of a file.
const TABLES: [&str; 2] = ["defaults", "port"];

/// What other programs call them.
const FOREIGN_TABLES: &[(&str, &str)] = &[
    ("default", "defaults"),
    ("global", "defaults"),
    ("globals", "defaults"),
    ("general", "defaults"),
    ("common", "defaults"),
    ("main", "defaults"),
    ("ports", "port"),
    ("vm", "port"),
    ("vms", "port"),
    ("guest", "port"),
    ("guests", "port"),
    ("interface", "port"),
    ("interfaces", "port"),
    ("net", "port"),
    ("nic", "port"),
    ("device", "port"),
    ("network", "port"),
];

/// The table that a name means, `defaults` or `port`.
pub(super) fn meant_table(name: &str) -> Option<&'static str> {
    suggest::nearest(name, &TABLES, FOREIGN_TABLES)
}

/// What is wrong with a name at the top of the file, if anything is.
pub(super) fn misnamed(
    name: &str,
    value: &DeValue,
    table: &'static [OptionSpec],
) -> Option<Invalid> {
    let holds = "a file holds [defaults] and [[port]] tables";
    let (one, many) = (matches!(value, DeValue::Table(_)), matches!(value, DeValue::Array(_)));
    let unknown = |remedy: &str| Some(Invalid::new(format!("'{name}' is not known"), remedy));
    match (name, meant_table(name)) {
        ("defaults", _) if one => None,
        ("port", _) if many => None,
        ("defaults", _) => Some(Invalid::new("write [defaults], a table, with one bracket", "")),
        ("port", _) => Some(Invalid::new("write [[port]], with two brackets, for each port", "")),
        (_, Some("defaults")) if one || many => unknown("did you mean [defaults]?"),
        (_, Some("port")) if one || many => unknown("did you mean [[port]]?"),
        _ if is_flag_only(name) => {
            unknown(&format!("{holds}; give the flag --{}", suggest::plain(name)))
        }
        _ => match meant_key(table, name) {
            Some(spec) => Some(Invalid::new(
                format!("'{name}' is not known here"),
                format!("{holds}; move {} below one of them", spec.key),
            )),
            None => unknown(holds),
        },
    }
}

/// True for what concerns the process and has a flag only.
fn is_flag_only(name: &str) -> bool {
    let name = suggest::plain(name);
    name == "config" || PROCESS_OPTIONS.iter().any(|spec| spec.flag == name)
}
