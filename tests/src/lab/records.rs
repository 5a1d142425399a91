//! The access log and the metrics of a node, read as their consumers read them.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;

use super::{Lab, eventually};

/// How long a line may take to its file: it is written at least every 100 ms.
const WRITTEN: Duration = Duration::from_secs(5);

impl Lab {
    /// Where the access log goes, if [`super::AgentOptions::access_log`] is set.
    pub fn access_log(&self) -> PathBuf {
        self.folder.join("access.log")
    }

    /// Where metrics are served, if [`super::AgentOptions::metrics`] is set.
    pub fn metrics_socket(&self) -> PathBuf {
        self.folder.join("metrics.sock")
    }

    /// The lines of the access log so far, whole ones.
    ///
    /// # Panics
    /// When a line is no JSON object.
    #[track_caller]
    pub fn records(&self) -> Vec<Value> {
        records_of(&fs::read_to_string(self.access_log()).unwrap_or_default())
    }

    /// The one line about the request with this id, once it is written.
    ///
    /// # Panics
    /// When there is none within 5 s, or there are two.
    #[track_caller]
    pub fn record(&self, request_id: &str) -> Value {
        let mut found = eventually(&format!("a line about {request_id}"), WRITTEN, || {
            let found: Vec<Value> = self.records().into_iter().filter(|line| line["requestId"] == request_id).collect();
            if found.is_empty() { Err(format!("{} other lines", self.records().len())) } else { Ok(found) }
        });
        assert_eq!(found.len(), 1, "several lines about one request: {found:?}");
        found.remove(0)
    }

    /// The lines of the access log, once there are at least this many.
    ///
    /// # Panics
    /// When there are fewer after 5 s.
    #[track_caller]
    pub fn records_at_least(&self, least: usize) -> Vec<Value> {
        eventually(&format!("{least} lines"), WRITTEN, || {
            let lines = self.records();
            if lines.len() >= least { Ok(lines) } else { Err(format!("{} lines", lines.len())) }
        })
    }

    /// Asks for the metrics now.
    ///
    /// # Panics
    /// When they are not served within 5 s, or are no Prometheus text.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        eventually("metrics are served", WRITTEN, || {
            let mut stream = UnixStream::connect(self.metrics_socket()).map_err(|error| error.to_string())?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|error| error.to_string())?;
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nhost: metrics\r\nconnection: close\r\n\r\n")
                .map_err(|error| error.to_string())?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
            let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP: {text:?}"))?;
            if !head.starts_with("HTTP/1.1 200") {
                return Err(head.to_owned());
            }
            Metrics::parse(body)
        })
    }
}

/// The whole lines of an access log.
///
/// # Panics
/// When a line is no JSON object.
#[track_caller]
pub fn records_of(text: &str) -> Vec<Value> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
            assert!(value.is_object(), "no object: {line}");
            value
        })
        .collect()
}

/// Samples in Prometheus's text format.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Vec<Sample>,
    types: BTreeMap<String, String>,
}

/// One line of [`Metrics`].
#[derive(Debug, Clone)]
pub struct Sample {
    /// Name, with `_bucket`, `_sum`, `_count` where it is a histogram's.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

impl Metrics {
    /// Reads them.
    ///
    /// # Errors
    /// When a line is neither comment nor sample, or a sample has no type.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut samples, mut types) = (Vec::new(), BTreeMap::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                let words: Vec<&str> = comment.split_whitespace().collect();
                if let ["TYPE", name, kind] = words[..]
                    && types.insert(name.to_owned(), kind.to_owned()).is_some()
                {
                    return Err(format!("two types: {line}"));
                }
                continue;
            }
            let sample = sample(line).ok_or_else(|| format!("no sample: {line:?}"))?;
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| sample.name.strip_suffix(suffix).filter(|family| types.contains_key(*family)));
            if !types.contains_key(family.unwrap_or(&sample.name)) {
                return Err(format!("no type before {line:?}"));
            }
            samples.push(sample);
        }
        Ok(Self { samples, types })
    }

    /// Sum of all samples with this name and these labels (and any others).
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.with(name, labels).map(|sample| sample.value).sum()
    }

    /// All samples with this name and these labels (and any others).
    pub fn with<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|own| own == value))
        })
    }

    /// All samples.
    pub fn all(&self) -> &[Sample] {
        &self.samples
    }

    /// Type of a metric: `counter`, `gauge`, `histogram`.
    pub fn kind(&self, name: &str) -> Option<&str> {
        self.types.get(name).map(String::as_str)
    }
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = after.char_indices();
            rest = loop {
                match characters.next()? {
                    (at, '"') => break &after[at + 1..],
                    (_, '\\') => value.push(match characters.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.insert(label.to_owned(), value);
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_summed() {
        let text = "# HELP r Requests.\n# TYPE r counter\nr{service=\"a\",vpc=\"x\"} 3\nr{service=\"a\",vpc=\"y \\\"q\\\"\"} 4\nr{service=\"b\"} 5\n\
                    # TYPE d histogram\nd_bucket{le=\"+Inf\"} 2\nd_sum 0.5\nd_count 2\n";
        let metrics = Metrics::parse(text).unwrap();
        assert!((metrics.sum("r", &[("service", "a")]) - 7.0).abs() < 1e-9);
        assert!((metrics.sum("r", &[("vpc", "y \"q\"")]) - 4.0).abs() < 1e-9);
        assert!((metrics.sum("d_bucket", &[("le", "+Inf")]) - 2.0).abs() < 1e-9);
        assert_eq!(metrics.kind("d"), Some("histogram"));
        assert!(Metrics::parse("untyped 1\n").is_err());
        assert!(Metrics::parse("# TYPE a counter\na{b=\"c} 1\n").is_err());
    }
}
