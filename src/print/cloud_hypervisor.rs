//! cloud-hypervisor's arguments.
//!
//! `num_queues` counts rings, two for each pair, and the guest needs at least as many CPUs as
//! pairs. All ports go behind one `--net`. Its parser needs double quotes around a value with a
//! comma or a bracket. No value can hold a double quote.
//!
//! `vhost_mode` is the VMM's end: `client` connects to us (and is the default), `server` listens.

use crate::error::{Error, Result};
use crate::print::shell::{lines, quoted};
use crate::print::shown_port::{RING_SIZE, ShownPort};

/// Guest memory: an example value that the user will change.
const MEMORY: &str = "1G";

/// The arguments, one a line.
pub(super) fn text(ports: &[ShownPort]) -> Result<String> {
    let mut arguments = Vec::new();
    let pairs = ports.iter().map(|shown| shown.port.queue_pairs).max().unwrap_or(1);
    if pairs > 1 {
        arguments.push(format!("--cpus boot={pairs}"));
    }
    arguments.push(format!("--memory size={MEMORY},shared=on"));
    for (index, shown) in ports.iter().enumerate() {
        let indent = if index == 0 { "--net " } else { "      " };
        arguments.push(format!("{indent}{}", quoted(&port(shown)?)));
    }
    Ok(lines(&arguments))
}

/// Remarks for the user beside the arguments.
pub(super) fn note() -> String {
    format!(
        "note: {MEMORY} of memory is an example: keep shared=on, and a CPU for each queue pair\n"
    )
}

fn port(shown: &ShownPort) -> Result<String> {
    let (path, vmm_listens) = shown.socket();
    let path = path.to_string_lossy();
    if path.contains('"') {
        return Err(Error::invalid_value(
            format!("socket={path}"),
            "cloud-hypervisor takes no path with a double quote",
            "choose another one",
        ));
    }
    let path =
        if path.contains([',', '[', ']']) { format!("\"{path}\"") } else { path.into_owned() };
    let mode = if vmm_listens { "server" } else { "client" };
    let queues = 2 * shown.port.queue_pairs;
    let mut net = format!(
        "vhost_user=true,socket={path},vhost_mode={mode},num_queues={queues},\
         queue_size={RING_SIZE},mac={}",
        shown.mac
    );
    if let Some(mtu) = shown.port.mtu {
        net.push_str(&format!(",mtu={mtu}"));
    }
    Ok(net)
}
