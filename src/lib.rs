//! vhost-user-macvtap: a vhost-user network back-end that puts virtual machines straight on the LAN.

pub mod config;
pub mod error;
pub mod mac;
pub mod mode;
pub mod uplink;
