//! Numbers of a fixed order, which JSON shows by name. Between agent and engine they stay what they are.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

fn put<S: Serializer, T: Serialize + Copy, const N: usize>(
    numbers: &[T; N],
    names: [&str; N],
    to: S,
) -> Result<S::Ok, S::Error>
where
    [T; N]: Serialize,
{
    if !to.is_human_readable() {
        return numbers.serialize(to);
    }
    let mut map = to.serialize_map(Some(N))?;
    for (name, number) in names.iter().zip(numbers) {
        map.serialize_entry(name, number)?;
    }
    map.end()
}

fn take<'de, D: Deserializer<'de>, T: Deserialize<'de> + Copy + Default, const N: usize>(
    names: [&'static str; N],
    from: D,
) -> Result<[T; N], D::Error>
where
    [T; N]: Deserialize<'de>,
{
    struct Names<T, const N: usize>([&'static str; N], std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Copy + Default, const N: usize> Visitor<'de> for Names<T, N> {
        type Value = [T; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "numbers by name: {}", self.0.join(", "))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found: BTreeMap<String, T> = BTreeMap::new();
            while let Some((name, number)) = map.next_entry()? {
                found.insert(name, number);
            }
            let mut numbers = [T::default(); N];
            for (name, number) in self.0.iter().zip(&mut numbers) {
                *number = found.remove(*name).ok_or_else(|| de::Error::missing_field(name))?;
            }
            Ok(numbers)
        }
    }

    if !from.is_human_readable() {
        return <[T; N]>::deserialize(from);
    }
    from.deserialize_map(Names(names, std::marker::PhantomData))
}

macro_rules! named {
    ($module:ident: $number:ty, $names:expr) => {
        pub(crate) mod $module {
            use super::{Deserializer, Serializer, put, take};

            const N: usize = $names.len();

            pub(crate) fn serialize<S: Serializer>(numbers: &[$number; N], to: S) -> Result<S::Ok, S::Error> {
                put(numbers, $names, to)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[$number; N], D::Error> {
                take($names, from)
            }
        }
    };
}

named!(responses: u64, ["1xx", "2xx", "3xx", "4xx", "5xx"]);
named!(levels: u64, ["identity", "network", "service"]);
named!(revoked: u64, ["requests", "connections"]);
named!(busiest: u32, ["connections", "requests", "dns_questions"]);
named!(descriptors: u32, ["used", "limit"]);
named!(memory: u64, ["used", "limit"]);
named!(dns: u64, ["answered", "forwarded", "refused"]);
named!(log_lines: u64, ["written", "dropped", "sampled_out"]);

#[cfg(test)]
mod tests {
    use crate::engine::Stats;

    #[test]
    fn json_has_names_and_the_link_has_none() {
        let stats = Stats {
            denied: [1, 2, 3],
            log_lines: [7, 8, 9],
            busiest: [4, 5, 6],
            responses: [0, 10, 20, 30, 40],
            ..Stats::default()
        };
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(json["log_lines"], serde_json::json!({"written": 7, "dropped": 8, "sampled_out": 9}));
        assert_eq!(json["denied"]["service"], 3);
        assert_eq!(json["busiest"]["dns_questions"], 6);
        assert_eq!(json["responses"]["5xx"], 40);
        let nameless = |value: &serde_json::Value| {
            value.as_array().is_some_and(|list| list.iter().any(serde_json::Value::is_number))
        };
        assert!(!json.as_object().unwrap().values().any(nameless), "{json}");
        assert_eq!(serde_json::from_value::<Stats>(json).unwrap(), stats);
        let bytes = postcard::to_stdvec(&stats).unwrap();
        assert_eq!(postcard::from_bytes::<Stats>(&bytes).unwrap(), stats);
        assert!(!bytes.windows(7).any(|window| window == b"written"));
    }
}
