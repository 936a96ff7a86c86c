#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code)]
mod common;
use common::rig::*;
use common::vmm::*;
#[test]
fn smoke() {
    let mut rig = Rig::new();
    let (_vmm, mut d) = rig.guest(&QemuOptions::default());
    rig.both_ways(&mut d, 0);
}
