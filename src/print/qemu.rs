//! QEMU's arguments.
//!
//! Three things are easily forgotten: guest memory must be shared (a memfd back-end), the device
//! needs `mq=on` and two interrupt vectors for each pair plus two, and `queues=` counts pairs.
//! `tx_queue_size` above 256 is allowed with vhost-user only, and worth it. A comma in a value is
//! doubled.
//!
//! `reconnect=1` is what QEMU up to 10.1 understands; 9.2 brought `reconnect-ms=`, 10.2 removed the
//! old name. No spelling fits all versions, so the older one, which the distributions' versions
//! take, is printed and the other one told.

use super::{RING_SIZE, Shown, lines, shell, socket};

/// Guest memory: an example value that the user will change.
const MEMORY: &str = "1G";

/// The arguments, one a line.
pub(super) fn text(ports: &[Shown]) -> String {
    let mut arguments = vec![
        format!("-m {MEMORY}"),
        format!("-object memory-backend-memfd,id=vhu-mem,size={MEMORY},share=on"),
        "-numa node,memdev=vhu-mem".to_owned(),
    ];
    for (index, shown) in ports.iter().enumerate() {
        arguments.extend(port(index, shown));
    }
    lines(&arguments)
}

/// What to tell beside the arguments.
pub(super) fn note(listens: bool) -> String {
    let mut note = format!(
        "note: {MEMORY} of memory is an example: change -m and size= together, and leave both out \
         if your guest has shared memory already\n"
    );
    if listens {
        note.push_str(
            "note: QEMU 10.2 and later want reconnect-ms=1000 (known since 9.2) instead of \
             reconnect=1\n",
        );
    }
    note
}

fn port(index: usize, shown: &Shown) -> [String; 3] {
    let (path, qemu_listens) = socket(shown.port);
    let path = path.to_string_lossy().replace(',', ",,");
    let meet = if qemu_listens { "server=on,wait=off" } else { "reconnect=1" };
    let pairs = shown.port.queue_pairs;
    let mut device = format!("virtio-net-pci,netdev=vhu{index}");
    if let Some(mac) = shown.mac {
        device.push_str(&format!(",mac={mac}"));
    }
    if pairs > 1 {
        device.push_str(&format!(",mq=on,vectors={}", 2 * pairs + 2));
    }
    device.push_str(&format!(",rx_queue_size={RING_SIZE},tx_queue_size={RING_SIZE}"));
    if let Some(mtu) = shown.mtu {
        device.push_str(&format!(",host_mtu={mtu}"));
    }
    [
        format!("-chardev {}", shell(&format!("socket,id=vhu{index},path={path},{meet}"))),
        format!("-netdev vhost-user,id=vhu{index},chardev=vhu{index},queues={pairs}"),
        format!("-device {device}"),
    ]
}
