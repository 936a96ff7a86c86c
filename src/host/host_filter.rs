//! Frames that are the guest's alone, kept from the host's own stack.
//!
//! In passthru mode the guest is the parent's only station: the kernel's macvlan takes every
//! unicast frame and leaves the host none. In source mode with NODST the same holds for frames from
//! certain senders. The broadcasts of a private, passthru or source port that a switch sends back
//! are not for the host either. An AF_PACKET socket gets only copies, so the host must be kept from
//! its own copies. A small BPF program on the parent's ingress (TCX) does that: it drops frames
//! *after* AF_PACKET has seen them (`__netif_receive_skb_core`: taps, then tc, then the stack).
//!
//! Crash-safe: the attachment is a BPF link, and the link is a file descriptor. When the process
//! ends, in any way, the kernel closes it, and the host receives again.
//!
//! Our program is the first on the device and ends with TCX_NEXT, so that others (Cilium) come
//! after it as if it did not exist. Frames that the host sends are not touched (that is egress),
//! nor those that the kernel loops back to itself (pkt_type LOOPBACK), as in
//! `macvlan_handle_frame`: its own multicast, which comes without an Ethernet header.
//!
//! What can go wrong: a kernel before 6.6 has no TCX, and a container may lack CAP_BPF; the message
//! says so. Kernel macvlans on the same parent come after TCX as well and lose the same frames as
//! the host: `parent.rs` refuses passthru beside them.

use std::io;
use std::os::fd::OwnedFd;

use crate::host::bpf;
use crate::host::bpf::{Instruction, Is, Label, Program, Reg, Size};
use crate::net::mac::Mac;

/// Most addresses that [`HostFilterRule::Sources`] takes.
pub const MAX_SOURCES: usize = 256;

/// The frames that the host must not receive.
#[derive(Clone, Copy, Debug)]
pub enum HostFilterRule<'a> {
    /// Unicast frames to any address. Group frames pass: passthru mode.
    Unicast,
    /// All frames with these source addresses, at most [`MAX_SOURCES`]: source mode with NODST.
    Sources(&'a [Mac]),
    /// Group frames with these source addresses, at most [`MAX_SOURCES`]: reflected ones.
    Reflected(&'a [Mac]),
}

/// A filter before the host's stack, for as long as it is kept.
///
/// To change the sources, attach a new one before this one is dropped: two do no harm, and there is
/// no gap.
#[derive(Debug)]
pub struct HostFilter {
    _link: OwnedFd,
}

impl HostFilter {
    /// Attaches a filter to the device with that index in the calling thread's network namespace.
    ///
    /// Errors: EPERM without CAP_BPF and CAP_NET_ADMIN; Unsupported where the kernel has no TCX;
    /// ENODEV; InvalidInput for more sources than there may be. The text names the missing part.
    pub fn attach(ifindex: u32, rule: HostFilterRule<'_>) -> io::Result<HostFilter> {
        if let HostFilterRule::Sources(sources) | HostFilterRule::Reflected(sources) = rule
            && sources.len() > MAX_SOURCES
        {
            let text = format!("{} source addresses; at most {MAX_SOURCES}", sources.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let code = assemble(rule)
            .ok_or_else(|| io::Error::other("the filter's program cannot be put together"))?;
        let program = bpf::load(&code).map_err(explained)?;
        let link = bpf::attach(&program, ifindex).map_err(explained)?;
        Ok(HostFilter { _link: link })
    }
}

#[cfg(test)]
impl HostFilter {
    /// A filter that hangs on this descriptor, for tests.
    pub(crate) fn over(link: OwnedFd) -> HostFilter {
        HostFilter { _link: link }
    }
}

fn explained(error: io::Error) -> io::Error {
    let (kind, hint) = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            (error.kind(), "it needs CAP_BPF and CAP_NET_ADMIN of the host's user namespace")
        }
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => (
            io::ErrorKind::Unsupported,
            "this kernel has no TCX: it needs Linux 6.6 with CONFIG_BPF",
        ),
        _ => return error,
    };
    io::Error::new(kind, format!("BPF program on the parent's ingress: {error}; {hint}"))
}

const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;
/// `struct __sk_buff`: pkt_type, data, data_end, in bytes from its start.
const PKT_TYPE: i16 = 4;
const DATA: i16 = 76;
const DATA_END: i16 = 80;
const PACKET_LOOPBACK: i32 = libc::PACKET_LOOPBACK as i32;

const RESULT: Reg = Reg(0);
const CONTEXT: Reg = Reg(1);
const FRAME: Reg = Reg(2);
const SCRATCH: Reg = Reg(3);
const END: Reg = Reg(4);
const SOURCE: Reg = Reg(5);

fn assemble(rule: HostFilterRule<'_>) -> Option<Vec<Instruction>> {
    let mut program = Program::default();
    // The verifier does not like code that is never reached.
    if matches!(rule, HostFilterRule::Sources([]) | HostFilterRule::Reflected([])) {
        program.set(RESULT, TCX_NEXT);
        program.end();
        return program.finish();
    }
    let (pass, drop) = (program.label(), program.label());
    program.load(Size::Word, SCRATCH, CONTEXT, PKT_TYPE);
    program.jump_if(SCRATCH, Is::Equal, PACKET_LOOPBACK, pass);
    // The verifier permits access to the Ethernet header once we have checked that it is there.
    program.load(Size::Word, FRAME, CONTEXT, DATA);
    program.load(Size::Word, END, CONTEXT, DATA_END);
    program.copy(SCRATCH, FRAME);
    program.add(SCRATCH, 14);
    program.jump_if_reg(SCRATCH, Is::Greater, END, pass);
    match rule {
        HostFilterRule::Unicast => {
            program.load(Size::Byte, SCRATCH, FRAME, 0);
            program.jump_if(SCRATCH, Is::AnyBit, 1, pass);
        }
        HostFilterRule::Sources(sources) | HostFilterRule::Reflected(sources) => {
            if let HostFilterRule::Reflected(_) = rule {
                let group = program.label();
                program.load(Size::Byte, SCRATCH, FRAME, 0);
                program.jump_if(SCRATCH, Is::AnyBit, 1, group);
                program.jump(pass);
                program.here(group);
            }
            program.load(Size::Word, SOURCE, FRAME, 6);
            program.load(Size::Half, SCRATCH, FRAME, 10);
            program.shift_left(SOURCE, 16);
            program.or(SOURCE, SCRATCH);
            let mut keys: Vec<u64> = sources.iter().map(|mac| key(*mac)).collect();
            keys.sort_unstable();
            keys.dedup();
            search(&mut program, &keys, pass, drop);
        }
    }
    program.here(drop);
    program.set(RESULT, TCX_DROP);
    program.end();
    program.here(pass);
    program.set(RESULT, TCX_NEXT);
    program.end();
    program.finish()
}

/// The address as the program has it in SOURCE: two loads in the host's byte order.
fn key(Mac([a, b, c, d, e, f]): Mac) -> u64 {
    u64::from(u32::from_ne_bytes([a, b, c, d])) << 16 | u64::from(u16::from_ne_bytes([e, f]))
}

/// Binary search for SOURCE among sorted keys, so that 256 of them take eight comparisons.
fn search(program: &mut Program, keys: &[u64], pass: Label, drop: Label) {
    let (below, rest) = keys.split_at(keys.len() / 2);
    let Some((middle, above)) = rest.split_first() else {
        program.jump(pass);
        return;
    };
    let smaller = program.label();
    program.set_wide(SCRATCH, *middle);
    program.jump_if_reg(SOURCE, Is::Equal, SCRATCH, drop);
    program.jump_if_reg(SOURCE, Is::Less, SCRATCH, smaller);
    search(program, above, pass, drop);
    program.here(smaller);
    search(program, below, pass, drop);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_short_and_every_jump_arrives() {
        assert_eq!(assemble(HostFilterRule::Unicast).unwrap().len(), 13);
        let sources: Vec<Mac> = (0..=255).map(|n| Mac([2, 0, 0, 0, 0, n])).collect();
        let code = assemble(HostFilterRule::Sources(&sources)).unwrap();
        // Four for each address, one for each place between two, and the rest of the program.
        assert!(code.len() < 256 * 4 + 257 + 20, "{}", code.len());
        assert!(assemble(HostFilterRule::Sources(&[])).is_some());
        assert_eq!(assemble(HostFilterRule::Reflected(&sources)).unwrap().len(), code.len() + 3);
    }

    #[test]
    fn too_many_sources_are_refused_before_the_kernel_is_asked() {
        let error =
            HostFilter::attach(1, HostFilterRule::Sources(&[Mac::default(); 257])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
