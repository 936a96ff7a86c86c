//! A far side that is a device of the kernel: a macvtap, or a tap on a bridge.
//!
//! A frame is read and written as a whole, including its header. A frame that the device does not
//! take is lost, as on a wire.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

use nix::unistd::{read, write};

use super::carrier::{BATCH, FarSide};

/// The device.
pub struct Device {
    file: File,
    buffer: Vec<u8>,
}

impl Device {
    /// A far side of this open tap or macvtap.
    pub fn new(file: File) -> Device {
        Device { file, buffer: vec![0; 1 << 17] }
    }
}

fn pass(from: &File, to: &File, buffer: &mut [u8]) -> usize {
    let mut moved = 0;
    while moved < BATCH {
        let Ok(size) = read(from, buffer) else { break };
        let _ = write(to, &buffer[..size]);
        moved += 1;
    }
    moved
}

impl FarSide for Device {
    fn out(&mut self, tap: &File) -> usize {
        pass(tap, &self.file, &mut self.buffer)
    }

    fn inward(&mut self, tap: &File) -> usize {
        pass(&self.file, tap, &mut self.buffer)
    }

    fn has_room(&self) -> bool {
        true
    }

    fn rest(&mut self) -> bool {
        true
    }

    fn rise(&mut self) {}

    fn alarms(&self) -> Vec<RawFd> {
        vec![self.file.as_raw_fd()]
    }
}
