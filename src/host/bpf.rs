//! A few BPF instructions by name, an assembler with labels, and the kernel's two calls for a
//! program.
//!
//! The programs here are a dozen lines; a compiler and an ELF loader for them would be the larger
//! risk. An instruction is 8 bytes (Documentation/bpf/standardization/instruction-set.rst): an
//! operation, two registers, a jump distance, a number. Jumps go forward to a label, whose distance
//! is filled in at the end.
//!
//! What can go wrong: the kernel's verifier rejects a program (EINVAL, EACCES) and we ask for no
//! log. The tests load every kind of program that is made.

use std::ffi::c_long;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// A register, r0 to r10. r0 is the program's return value, r1 at the start the packet's context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reg(pub(crate) u8);

/// How two numbers compare, without sign.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Is {
    Equal = 0x10,
    Greater = 0x20,
    Less = 0xa0,
    /// They have a bit in common.
    AnyBit = 0x40,
}

/// How much to load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
}

/// A place in a program that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// One instruction: `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    number: i32,
}

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Program {
    code: Vec<Instruction>,
    /// The label of each jump.
    jumps: Vec<(usize, Label)>,
    /// The places of the labels, once they are known.
    labels: Vec<Option<usize>>,
}

impl Program {
    /// A label for jumps, before its place is known.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub(crate) fn here(&mut self, label: Label) {
        let here = self.code.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(here);
        }
    }

    fn push(&mut self, code: u8, to: Reg, from: Reg, offset: i16, number: i32) {
        let low_first = cfg!(target_endian = "little");
        let registers = if low_first { from.0 << 4 | to.0 } else { to.0 << 4 | from.0 };
        self.code.push(Instruction { code, registers, offset, number });
    }

    /// `to = number`.
    pub(crate) fn set(&mut self, to: Reg, number: i32) {
        self.push(0xb7, to, Reg(0), 0, number);
    }

    /// `to = number`, of 64 bits: two instructions.
    pub(crate) fn set_wide(&mut self, to: Reg, number: u64) {
        self.push(0x18, to, Reg(0), 0, number as u32 as i32);
        self.push(0, Reg(0), Reg(0), 0, (number >> 32) as u32 as i32);
    }

    /// `to = from`.
    pub(crate) fn copy(&mut self, to: Reg, from: Reg) {
        self.push(0xbf, to, from, 0, 0);
    }

    /// `to += number`.
    pub(crate) fn add(&mut self, to: Reg, number: i32) {
        self.push(0x07, to, Reg(0), 0, number);
    }

    /// `to <<= bits`.
    pub(crate) fn shift_left(&mut self, to: Reg, bits: i32) {
        self.push(0x67, to, Reg(0), 0, bits);
    }

    /// `to |= from`.
    pub(crate) fn or(&mut self, to: Reg, from: Reg) {
        self.push(0x4f, to, from, 0, 0);
    }

    /// `to = *(from + offset)`, in the host's byte order.
    pub(crate) fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) {
        self.push(0x61 | size as u8, to, from, offset, 0);
    }

    /// Jumps if `a` compares so with a number.
    pub(crate) fn jump_if(&mut self, a: Reg, is: Is, number: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(0x05 | is as u8, a, Reg(0), 0, number);
    }

    /// Jumps if `a` compares so with `b`.
    pub(crate) fn jump_if_reg(&mut self, a: Reg, is: Is, b: Reg, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(0x0d | is as u8, a, b, 0, 0);
    }

    /// Jumps.
    pub(crate) fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(0x05, Reg(0), Reg(0), 0, 0);
    }

    /// Returns r0.
    pub(crate) fn end(&mut self) {
        self.push(0x95, Reg(0), Reg(0), 0, 0);
    }

    /// The finished program. None if a label has no place, or one too far away.
    pub(crate) fn finish(mut self) -> Option<Vec<Instruction>> {
        for (at, label) in self.jumps {
            let to = (*self.labels.get(label.0)?)?;
            let distance = to.checked_sub(at)?.checked_sub(1)?;
            self.code.get_mut(at)?.offset = i16::try_from(distance).ok()?;
        }
        Some(self.code)
    }
}

/// BPF_PROG_TYPE_SCHED_CLS: a program of traffic control.
const SCHED_CLS: u32 = 3;
/// BPF_TCX_INGRESS: the place in the path of a received frame.
const TCX_INGRESS: u32 = 46;
/// BPF_F_BEFORE: without a program to be before, the first of all.
const BEFORE: u32 = 1 << 3;

const PROG_LOAD: c_long = 5;
const LINK_CREATE: c_long = 28;

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach: u32,
}

/// The same for BPF_LINK_CREATE and TCX.
#[repr(C)]
#[derive(Default)]
struct BpfLink {
    program: u32,
    ifindex: u32,
    attach: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    revision: u64,
}

/// Only structures of this file: plain numbers without padding.
trait Attributes {}
impl Attributes for Load {}
impl Attributes for BpfLink {}

fn call<T: Attributes>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    let size = mem::size_of::<T>() as libc::c_ulong;
    // SAFETY: the attributes are whole, of the announced size, and the kernel only reads them; the
    // pointers in them (see `load`) are to memory that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size) };
    let fd = Errno::result(fd)?;
    // SAFETY: the descriptor is new (close-on-exec, as all of bpf's) and no other code has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Has a program for received frames verified. EPERM: CAP_BPF and CAP_NET_ADMIN are needed.
pub(crate) fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(b"vum_host") {
        *to = *from;
    }
    let attributes = Load {
        kind: SCHED_CLS,
        count: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"Apache-2.0 OR BSD-3-Clause".as_ptr() as u64,
        name,
        attach: TCX_INGRESS,
        ..Load::default()
    };
    call(PROG_LOAD, &attributes)
}

/// Puts the program before all others on the device, for as long as the descriptor lives. EINVAL:
/// the kernel has no TCX. ENODEV: no such device.
pub(crate) fn attach(program: &OwnedFd, ifindex: u32) -> io::Result<OwnedFd> {
    let attributes = BpfLink {
        program: program.as_raw_fd() as u32,
        ifindex,
        attach: TCX_INGRESS,
        flags: BEFORE,
        ..BpfLink::default()
    };
    call(LINK_CREATE, &attributes)
}
