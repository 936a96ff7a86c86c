//! Fuzz targets: every parser of bytes that a guest, a front-end, the LAN or a user chooses.
//!
//! A target is a function of bytes. It panics when the program does something wrong: when it panics
//! itself, reads outside (under a sanitizer or miri), or breaks one of the properties that the
//! target checks. The same function runs in two ways:
//!
//! | way | what chooses the bytes |
//! | --- | --- |
//! | `make fuzz`, and for seconds in `make test` | seeds, their mutations and random bytes (`driver.rs`), on stable Rust |
//! | `cargo +nightly fuzz run --features libfuzzer TARGET` | libFuzzer, by coverage |
//!
//! | target | what it feeds |
//! | --- | --- |
//! | [`ring`] | the split ring and descriptor chains, in memory that the driver writes to at any time |
//! | [`request_filter`] | whole sequences of vhost-user messages |
//! | [`framing`] | a socket's bytes, in any portions |
//! | [`offload`] | a virtio-net header and a frame, for any receiver |
//! | [`snooping`] | frames of a guest: IGMP and MLD reports, link control |
//! | [`frame`] | what the kernel puts in front of a frame and beside it |
//! | [`config`] | the configuration file and `--port` |
//!
//! A crash that was found is kept as a file in `fuzz/corpus/TARGET/`, named after the error; the
//! replay (`tests/replay.rs`) runs all of these first. The fix has a named test beside the code.

pub mod config;
pub mod driver;
pub mod frame;
pub mod framing;
pub mod input;
pub mod offload;
pub mod packets;
pub mod request_filter;
pub mod ring;
pub mod snooping;
