//! `--port key=value,key=value,...`: one port in one argument.
//!
//! The form is QEMU's and cloud-hypervisor's, without their escapes: a value cannot hold a comma.
//! (A socket path with one can be given by `--socket-path` or in a file.) Every wrong piece is
//! reported, and the rest is still read, so that one typing error does not hide the next.

use crate::config::invalid::Invalid;
use crate::config::option::OptionSpec;
use crate::config::raw_options::{RawOptions, Source};
use crate::error::{ErrorCode, Problem};

/// Reads the n-th `--port` (from 1) by a table of options.
pub fn read(
    table: &'static [OptionSpec],
    number: usize,
    text: &str,
    problems: &mut Vec<Problem>,
) -> RawOptions {
    let mut raw = RawOptions::new(Source::PortArg(number), table);
    let mut wrong = Vec::new();
    if text.is_empty() {
        let empty = Invalid::new("is empty", "write socket=PATH,parent=DEV");
        wrong.push((ErrorCode::MissingValue, empty));
    }
    for piece in text.split(',').filter(|_| !text.is_empty()) {
        wrong.extend(read_piece(piece, &mut raw).err());
    }
    // Only now, because the socket that names the port may come last.
    let problem =
        |(code, wrong): (_, Invalid)| Problem::new(code, raw.label(), wrong.reason, wrong.remedy);
    problems.extend(wrong.into_iter().map(problem));
    raw
}

fn read_piece(piece: &str, raw: &mut RawOptions) -> Result<(), (ErrorCode, Invalid)> {
    let invalid =
        |reason: String, remedy: &str| Err((ErrorCode::InvalidValue, Invalid::new(reason, remedy)));
    if piece.is_empty() {
        return invalid("nothing between two commas".to_owned(), "remove one");
    }
    let unknown = |wrong| (ErrorCode::UnknownName, wrong);
    let Some((typed, value)) = piece.split_once('=') else {
        if let Ok(spec) = raw.known_key(piece) {
            raw.spoil(spec.key);
            let remedy = format!("write {}=VALUE", spec.key);
            return invalid(format!("'{}' has no value", spec.key), &remedy);
        }
        let mut wrong =
            Invalid::new(format!("'{piece}' has no '='"), "write key=value, joined by commas");
        if let Some(meant) = raw.meant_key(piece) {
            raw.spoil(meant.key);
            wrong = wrong.or(&format!("did you mean {}=?", meant.key));
        }
        return Err(unknown(wrong));
    };
    let key = match raw.known_key(typed) {
        Ok(spec) => spec.key,
        Err(wrong) => {
            raw.meant_key(typed).into_iter().for_each(|meant| raw.spoil(meant.key));
            return Err(unknown(wrong));
        }
    };
    if value.is_empty() {
        raw.spoil(key);
        return invalid(format!("{key}=: empty"), "give a value or leave the key out");
    }
    if !raw.add(key, value.to_owned(), None) {
        return invalid(format!("{key}={value}: {key} is given twice"), "keep one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::option::keys;
    use crate::config::port_options::PORT_OPTIONS;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        read(PORT_OPTIONS, 2, text, &mut problems);
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn reads_keys_and_values() {
        let mut problems = Vec::new();
        let raw = read(
            PORT_OPTIONS,
            1,
            "socket=/run/x=1.sock,source=02:0:0:0:0:1+02:0:0:0:0:2",
            &mut problems,
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(raw.text("socket"), Some("/run/x=1.sock"));
        assert_eq!(raw.text("source"), Some("02:0:0:0:0:1+02:0:0:0:0:2"));
        assert_eq!(raw.text("mtu"), None);
    }

    #[test]
    fn names_every_wrong_piece() {
        let keys: Vec<&str> = keys(PORT_OPTIONS).map(|spec| spec.key).collect();
        let keys = keys.join(", ");
        let unknown = format!(
            "--port 2 (socket=/s): 'queues' is not a key of a port; did you mean queue-pairs? The keys are {keys}"
        );
        assert_eq!(
            problems("queues=2,mtu,foo,mode=,mtu=1400,mtu=1500,,socket=/s"),
            [
                unknown.as_str(),
                "--port 2 (socket=/s): 'mtu' has no value; write mtu=VALUE",
                "--port 2 (socket=/s): 'foo' has no '='; write key=value, joined by commas",
                "--port 2 (socket=/s): mode=: empty; give a value or leave the key out",
                "--port 2 (socket=/s): mtu=1500: mtu is given twice; keep one",
                "--port 2 (socket=/s): nothing between two commas; remove one",
            ]
        );
        assert_eq!(problems(""), ["--port 2: is empty; write socket=PATH,parent=DEV"]);
    }
}
