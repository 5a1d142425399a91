//! A kernel map and what is known to be in it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use brattice_loader::{Error, Pod, Table};

use super::difference;

/// Where entries are kept: a map in the kernel.
pub trait Entries<K, V> {
    /// All entries.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn entries(&self) -> Result<Vec<(K, V)>, Error>;

    /// Writes a key's value.
    ///
    /// # Errors
    /// [`Error::Full`] for a new key at the limit; whatever else the kernel refuses.
    fn insert(&self, key: &K, value: &V) -> Result<(), Error>;

    /// Removes a key; one that is absent is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn remove(&self, key: &K) -> Result<(), Error>;

    /// Most entries.
    fn capacity(&self) -> u32;
}

impl<K: Pod, V: Pod> Entries<K, V> for Table<K, V> {
    fn entries(&self) -> Result<Vec<(K, V)>, Error> {
        Table::entries(self)
    }

    fn insert(&self, key: &K, value: &V) -> Result<(), Error> {
        Table::insert(self, key, value)
    }

    fn remove(&self, key: &K) -> Result<(), Error> {
        Table::remove(self, key)
    }

    fn capacity(&self) -> u32 {
        Table::capacity(self)
    }
}

/// A kernel map and what is known to be in it.
#[derive(Debug)]
pub struct Mirror<K, V, T = Table<K, V>> {
    name: &'static str,
    table: T,
    known: Arc<HashMap<K, V>>,
    /// Why the latest [`Self::put`] could not write everything.
    refusal: Option<String>,
}

impl<K: Eq + Hash + Copy, V: PartialEq + Copy, T: Entries<K, V>> Mirror<K, V, T> {
    /// Reads the map.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn read(name: &'static str, table: T) -> Result<Self, Error> {
        let known = Arc::new(table.entries()?.into_iter().collect());
        Ok(Self { name, table, known, refusal: None })
    }

    /// Reads the map again, in case another process wrote to it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.known = Arc::new(self.table.entries()?.into_iter().collect());
        Ok(())
    }

    /// Writes what is new or different; says what failed.
    pub fn put(&mut self, desired: &HashMap<K, V>) -> Vec<String> {
        self.put_if(desired, |_| true)
    }

    /// As [`Self::put`], of the values that `ready` takes.
    pub fn put_if(&mut self, desired: &HashMap<K, V>, ready: impl Fn(&V) -> bool) -> Vec<String> {
        let mut failed = Vec::new();
        self.refusal = None;
        let mut full = false;
        for (key, value) in difference(&self.known, desired).put.into_iter().filter(|(_, value)| ready(value)) {
            // A full map refuses every new key, and takes another value of a key that it has.
            if full && !self.known.contains_key(&key) {
                continue;
            }
            match self.table.insert(&key, &value) {
                Ok(()) => drop(Arc::make_mut(&mut self.known).insert(key, value)),
                Err(e) => {
                    full |= matches!(e, Error::Full { .. });
                    failed.push(format!("{}: {e}", self.name));
                    self.refusal = Some(e.to_string());
                }
            }
        }
        failed
    }

    /// Removes what is not wanted any more; says what failed.
    pub fn remove(&mut self, desired: &HashMap<K, V>) -> Vec<String> {
        self.remove_if(|key, _| !desired.contains_key(key))
    }

    /// Removes what `unwanted` says; says what failed.
    pub fn remove_if(&mut self, unwanted: impl Fn(&K, &V) -> bool) -> Vec<String> {
        let keys: Vec<K> = self.known.iter().filter(|(key, value)| unwanted(key, value)).map(|(key, _)| *key).collect();
        let mut failed = Vec::new();
        for key in keys {
            match self.table.remove(&key) {
                Ok(()) => drop(Arc::make_mut(&mut self.known).remove(&key)),
                Err(e) => failed.push(format!("{}: {e}", self.name)),
            }
        }
        failed
    }

    /// (used, limit).
    pub fn fill(&self) -> (u64, u64) {
        (self.known.len() as u64, u64::from(self.table.capacity()))
    }

    /// The known content. A clone of the `Arc` shows no later change.
    pub fn known(&self) -> &Arc<HashMap<K, V>> {
        &self.known
    }

    /// Why an entry lacks after [`Self::put`], with the map's name.
    pub fn refusal(&self) -> String {
        self.refusal.clone().unwrap_or_else(|| format!("map {} lacks an entry", self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A map of three entries.
    #[derive(Debug, Default)]
    struct Three(RefCell<HashMap<u8, u8>>);

    impl Entries<u8, u8> for Three {
        fn entries(&self) -> Result<Vec<(u8, u8)>, Error> {
            Ok(self.0.borrow().iter().map(|(key, value)| (*key, *value)).collect())
        }

        fn insert(&self, key: &u8, value: &u8) -> Result<(), Error> {
            let mut all = self.0.borrow_mut();
            if all.len() == 3 && !all.contains_key(key) {
                return Err(Error::Full { map: "THREE".into(), capacity: 3 });
            }
            all.insert(*key, *value);
            Ok(())
        }

        fn remove(&self, key: &u8) -> Result<(), Error> {
            self.0.borrow_mut().remove(key);
            Ok(())
        }

        fn capacity(&self) -> u32 {
            3
        }
    }

    #[test]
    fn a_full_map_still_takes_other_values_of_the_keys_that_it_has() {
        let mut mirror = Mirror::read("THREE", Three::default()).unwrap();
        assert!(mirror.put(&HashMap::from([(1, 1), (2, 1), (3, 1)])).is_empty());
        // All of the new keys are refused with one line; in whichever order they come, the three others are written.
        let desired: HashMap<u8, u8> = (1..20).map(|key| (key, 2)).collect();
        assert_eq!(mirror.put(&desired), ["THREE: map THREE is full (3 entries, its limit)"]);
        assert_eq!(**mirror.known(), HashMap::from([(1, 2), (2, 2), (3, 2)]));
        assert_eq!(*mirror.table.0.borrow(), **mirror.known(), "what is known is what is written");
        assert_eq!(mirror.refusal(), "map THREE is full (3 entries, its limit)");
        // There is room again.
        assert!(mirror.remove(&HashMap::from([(2, 2)])).is_empty());
        assert!(mirror.put(&HashMap::from([(2, 2), (9, 2)])).is_empty());
        assert_eq!(mirror.fill(), (2, 3));
    }

    #[test]
    fn what_is_not_ready_is_not_written() {
        let mut mirror = Mirror::read("THREE", Three::default()).unwrap();
        assert!(mirror.put_if(&HashMap::from([(1, 1), (2, 2)]), |value| *value == 2).is_empty());
        assert_eq!(**mirror.known(), HashMap::from([(2, 2)]));
        assert_eq!(mirror.refusal(), "map THREE lacks an entry");
    }
}
