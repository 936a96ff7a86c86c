//! The elements of a libvirt domain.
//!
//! They go to two places of the document: `<memoryBacking>` once, directly in `<domain>`, and one
//! `<interface>` for each port in `<devices>`. A comment before each says so. libvirt's `mode` is
//! the VMM's end: `client` when we listen, which libvirt advises too, because with `server` the
//! domain's start waits for us.

use crate::error::{Error, Result};
use crate::print::shown_port::{RING_SIZE, ShownPort};

const MEMORY: &str = "\
<!-- directly in <domain>, once: guest memory that the back-end can map -->
<memoryBacking>
  <source type='memfd'/>
  <access mode='shared'/>
</memoryBacking>
";

/// The elements, each with a comment that says where it belongs.
pub(super) fn text(ports: &[ShownPort]) -> Result<String> {
    let mut text = MEMORY.to_owned();
    text.push_str("<!-- in <devices>: -->\n");
    for shown in ports {
        text.push_str(&interface(shown)?);
    }
    Ok(text)
}

fn interface(shown: &ShownPort) -> Result<String> {
    let (path, vmm_listens) = shown.socket();
    let path = path.to_string_lossy();
    if path.chars().any(char::is_control) {
        return Err(Error::invalid_value(
            format!("socket={path:?}"),
            "XML holds no control characters",
            "choose another path",
        ));
    }
    let path = escape(&path);
    let mut lines = vec!["<interface type='vhostuser'>".to_owned()];
    lines.push(format!("  <mac address='{}'/>", shown.mac));
    if vmm_listens {
        lines.push(format!("  <source type='unix' path='{path}' mode='server'/>"));
    } else {
        lines.push(format!("  <source type='unix' path='{path}' mode='client'>"));
        lines.push("    <reconnect enabled='yes' timeout='1'/>".to_owned());
        lines.push("  </source>".to_owned());
    }
    lines.push("  <model type='virtio'/>".to_owned());
    let pairs = shown.port.queue_pairs;
    let queues = if pairs > 1 { format!(" queues='{pairs}'") } else { String::new() };
    lines.push(format!(
        "  <driver{queues} rx_queue_size='{RING_SIZE}' tx_queue_size='{RING_SIZE}'/>"
    ));
    if let Some(mtu) = shown.port.mtu {
        lines.push(format!("  <mtu size='{mtu}'/>"));
    }
    lines.push("</interface>\n".to_owned());
    Ok(lines.join("\n"))
}

/// Text for an attribute's value.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}
