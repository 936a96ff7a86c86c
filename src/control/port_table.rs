//! The ports of the process, by an id that never means another port.
//!
//! A port may be removed while something still names it: an event that epoll has reported in the
//! same round, a listener that rests, a front-end thread's last message. An index into a list would
//! then name the next port in that place. So the table gives each port a [`PortKey`], its
//! generation: a number that is counted up for every insertion and never used again. A key whose
//! port was removed finds nothing, even if a port of the same name has been inserted since. The
//! name says which port is meant, the key which life of it.
//!
//! The table is iterated in the order of insertion, which is that of the configuration.

use std::collections::{BTreeMap, HashMap};

/// One life of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey(u64);

impl PortKey {
    /// The greatest key: 61 bits, so that an epoll token has room for it and its own kind.
    const MAX: u64 = (1 << 61) - 1;

    /// The key as a number of at most 61 bits.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The inverse of [`PortKey::number`]. A number that is no key finds nothing in any table.
    pub fn of(number: u64) -> PortKey {
        PortKey(number & PortKey::MAX)
    }
}

/// Ports by key and by name.
#[derive(Debug)]
pub struct PortTable<T> {
    ports: BTreeMap<PortKey, (String, T)>,
    names: HashMap<String, PortKey>,
    next: u64,
}

impl<T> Default for PortTable<T> {
    fn default() -> PortTable<T> {
        PortTable { ports: BTreeMap::new(), names: HashMap::new(), next: 0 }
    }
}

impl<T> PortTable<T> {
    /// Inserts a port under a name that no other port has.
    ///
    /// # Errors
    /// There is a port of that name; the new one is returned.
    pub fn insert(&mut self, name: &str, port: T) -> Result<PortKey, T> {
        if self.names.contains_key(name) || self.next > PortKey::MAX {
            return Err(port);
        }
        let key = PortKey(self.next);
        self.next += 1;
        self.names.insert(name.to_owned(), key);
        self.ports.insert(key, (name.to_owned(), port));
        Ok(key)
    }

    /// Removes a port. Its key finds nothing from now on.
    pub fn remove(&mut self, key: PortKey) -> Option<T> {
        let (name, port) = self.ports.remove(&key)?;
        self.names.remove(&name);
        Some(port)
    }

    /// Removes the port that was inserted first.
    pub fn pop_first(&mut self) -> Option<T> {
        let (&key, _) = self.ports.first_key_value()?;
        self.remove(key)
    }

    /// The port with this key.
    pub fn get_mut(&mut self, key: PortKey) -> Option<&mut T> {
        self.ports.get_mut(&key).map(|(_, port)| port)
    }

    /// The key of the port with this name.
    #[cfg(test)]
    pub fn find(&self, name: &str) -> Option<PortKey> {
        self.names.get(name).copied()
    }

    /// All ports.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.ports.values().map(|(_, port)| port)
    }

    /// All ports, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.ports.values_mut().map(|(_, port)| port)
    }

    /// All ports with their keys, to be changed.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = (PortKey, &mut T)> {
        self.ports.iter_mut().map(|(key, (_, port))| (*key, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut table = PortTable::default();
        let first = table.insert("vm1", 1).unwrap();
        assert_eq!(table.remove(first), Some(1));
        let second = table.insert("vm1", 2).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 2));
        assert_eq!(table.find("vm1"), Some(second), "the stale key took nothing away");
    }

    #[test]
    fn one_name_is_one_port() {
        let mut table = PortTable::default();
        let key = table.insert("vm1", 1).unwrap();
        assert_eq!(table.insert("vm1", 2), Err(2));
        assert_eq!((table.find("vm1"), table.find("vm2")), (Some(key), None));
        assert_eq!(table.iter().collect::<Vec<_>>(), [&1]);
    }

    #[test]
    fn the_order_is_that_of_insertion() {
        let mut table = PortTable::default();
        let keys: Vec<PortKey> =
            ["z", "a", "m"].iter().map(|name| table.insert(name, *name).unwrap()).collect();
        assert_eq!(table.remove(keys[1]), Some("a"));
        table.insert("b", "b").unwrap();
        assert_eq!(table.iter().copied().collect::<Vec<_>>(), ["z", "m", "b"]);
        table.iter_mut().for_each(|port| *port = "x");
        assert_eq!(table.entries_mut().next(), Some((keys[0], &mut "x")));
        assert_eq!(table.pop_first(), Some("x"));
        assert_eq!((table.find("z"), table.iter().count()), (None, 2));
    }

    #[test]
    fn a_key_goes_through_a_number() {
        let mut table = PortTable::default();
        let key = table.insert("vm1", ()).unwrap();
        assert_eq!(PortKey::of(key.number()), key);
        assert_eq!(table.get_mut(PortKey::of(u64::MAX)), None);
    }
}
