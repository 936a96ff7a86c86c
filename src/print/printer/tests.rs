//! The printers' text, whole, because it is pasted whole.

use clap::Parser;

use super::*;
use crate::cli::Args;
use crate::config::{auto_mac, machine_id, resolve};
use crate::control::port_mac;
use crate::host::local::LocalHost;

fn config(line: &str) -> Config {
    let words = std::iter::once("vhost-user-macvtap").chain(line.split(' '));
    resolve(&Args::try_parse_from(words).unwrap().input()).unwrap()
}

/// The program's output, with the addresses that the ports would have on this host.
fn text(printer: &Printer, config: &Config) -> Result<String> {
    let macs = port_mac::of_all(&config.ports, &mut LocalHost::open()?)?;
    printer.text(&config.ports, &macs)
}

/// A QEMU that was not asked.
fn qemu() -> Printer {
    Printer::Qemu(Qemu::default())
}

fn printed(printer: Printer, line: &str) -> String {
    text(&printer, &config(line)).unwrap()
}

const FULL: &str = "--parent eth0 --socket-path /run/a.sock --mac 52:54:00:00:00:01 --mtu 1400 \
                    --queue-pairs 2";
const TWO: &str = "--parent eth0 --port socket=/run/a.sock,mac=52:54:00:00:00:01 \
                   --port socket=/run/b.sock,mac=52:54:00:00:00:02,client=on";

#[test]
fn qemu_gets_shared_memory_and_a_device_with_all_queues() {
    assert_eq!(
        printed(qemu(), FULL),
        "-object memory-backend-memfd,id=vhu-mem,size=1G,share=on \\\n\
         -machine memory-backend=vhu-mem \\\n\
         -chardev socket,id=vhu0,path=/run/a.sock,reconnect=1 \\\n\
         -netdev vhost-user,id=vhu0,chardev=vhu0,queues=2 \\\n\
         -device virtio-net-pci,netdev=vhu0,mac=52:54:00:00:00:01,mq=on,vectors=6,\
         rx_queue_size=1024,tx_queue_size=1024,host_mtu=1400\n"
    );
}

#[test]
fn qemu_gets_memory_once_and_listens_when_we_connect() {
    let text = printed(qemu(), TWO);
    assert_eq!(text.matches("memory-backend-memfd").count(), 1);
    assert!(text.contains("-chardev socket,id=vhu1,path=/run/b.sock,server=on,wait=off \\\n"));
    assert!(text.contains("-netdev vhost-user,id=vhu1,chardev=vhu1,queues=1 \\\n"));
    assert!(!text.contains("mq=on") && !text.contains("host_mtu"));
}

#[test]
fn cloud_hypervisor_gets_rings_not_pairs() {
    assert_eq!(
        printed(Printer::CloudHypervisor, FULL),
        "--cpus boot=2 \\\n\
         --memory size=1G,shared=on \\\n\
         --net vhost_user=true,socket=/run/a.sock,vhost_mode=client,num_queues=4,queue_size=1024,\
         mac=52:54:00:00:00:01,mtu=1400\n"
    );
    let text = printed(Printer::CloudHypervisor, TWO);
    assert_eq!(text.matches("--net").count(), 1);
    assert!(text.contains("socket=/run/b.sock,vhost_mode=server,num_queues=2,"));
}

#[test]
fn libvirt_gets_both_elements() {
    assert_eq!(
        printed(Printer::Libvirt, FULL),
        "<!-- directly in <domain>, once: guest memory that the back-end can map -->\n\
         <memoryBacking>\n  \
           <source type='memfd'/>\n  \
           <access mode='shared'/>\n\
         </memoryBacking>\n\
         <!-- in <devices>: -->\n\
         <interface type='vhostuser'>\n  \
           <mac address='52:54:00:00:00:01'/>\n  \
           <source type='unix' path='/run/a.sock' mode='client'>\n    \
             <reconnect enabled='yes' timeout='1'/>\n  \
           </source>\n  \
           <model type='virtio'/>\n  \
           <driver queues='2' rx_queue_size='1024' tx_queue_size='1024'/>\n  \
           <mtu size='1400'/>\n\
         </interface>\n"
    );
    let text = printed(Printer::Libvirt, TWO);
    assert_eq!(text.matches("<memoryBacking>").count(), 1);
    assert!(text.contains("<source type='unix' path='/run/b.sock' mode='server'/>"));
}

#[test]
fn odd_paths_are_quoted_as_each_reader_wants() {
    let mut config = config(FULL);
    let mut show = |printer: Printer, path: &str| {
        config.ports[0].socket = FrontendSocket::Listen(path.into());
        text(&printer, &config)
    };
    let qemu_text = show(qemu(), "/run/it's, odd.sock").unwrap();
    assert!(
        qemu_text.contains("-chardev 'socket,id=vhu0,path=/run/it'\\''s,, odd.sock,reconnect=1' ")
    );
    let libvirt = show(Printer::Libvirt, "/run/<a>&'b'\".sock").unwrap();
    assert!(libvirt.contains("path='/run/&lt;a&gt;&amp;&apos;b&apos;&quot;.sock'"), "{libvirt}");
    let cloud = show(Printer::CloudHypervisor, "/run/a,b.sock").unwrap();
    assert!(cloud.contains("'vhost_user=true,socket=\"/run/a,b.sock\",vhost_mode="), "{cloud}");
    assert!(show(Printer::CloudHypervisor, "/run/a\"b.sock").is_err());
    assert!(show(Printer::Libvirt, "/run/a\u{1}b.sock").is_err());
    let relative = show(qemu(), "a.sock").unwrap();
    let whole = std::env::current_dir().unwrap().join("a.sock");
    assert!(relative.contains(whole.to_str().unwrap()), "the VMM runs elsewhere: {relative}");
}

#[test]
fn an_inherited_socket_has_no_path_to_print() {
    let error = text(&qemu(), &config("--parent lo --fd 5 --mac 02:0:0:0:0:1")).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().starts_with("--fd 5: has no path"), "{error}");
}

#[test]
fn the_mac_is_the_ports_own() {
    let shows = |line: &str| {
        text(&Printer::CloudHypervisor, &config(line)).map_err(|error| error.to_string())
    };
    let port = "--parent lo --socket-path /s --name vm1";
    let error = shows(&format!("{port} --mode passthru")).unwrap_err();
    assert!(error.starts_with("parent lo: its address '00:00:00:00:00:00' is not"), "{error}");
    if let Some(id) = machine_id() {
        let mac = auto_mac(&id, "vm1");
        assert!(shows(port).unwrap().contains(&format!(",mac={mac}")));
    }
    let given = shows(&format!("{port} --mode passthru --mac 02:00:00:00:00:09")).unwrap();
    assert!(given.contains(",mac=02:00:00:00:00:09"));
}

#[test]
fn a_passthru_parent_that_is_not_there_is_named() {
    let error = text(&qemu(), &config("--parent nonet0 --socket-path /s --mode passthru"));
    let error = error.unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().starts_with("parent nonet0: there is no such network device"));
}
