//! What a port does with a source address that is not its own, and how a frame is judged by it.

/// What a port does with a source address that is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacPolicy {
    /// The frame is dropped.
    Deny,
    /// The port takes the address.
    Allow,
    /// The same in passthru mode, where the port receives every address: the guest may use several.
    Exclusive,
    /// The port takes the first address that its guest uses, and denies every other one.
    Learn,
    /// Nothing: any address may leave, and the port keeps its own. As the kernel does.
    Ignore,
}

/// Whether a frame may leave with its source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacJudgement {
    /// It is the port's own, or the port follows.
    Ours,
    /// It is not, and the port keeps to its own.
    Foreign,
}
