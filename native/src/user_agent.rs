//! `domain.user_agent`, asked once for each user agent.

use std::collections::HashMap;

use pyo3::prelude::*;

use crate::call::Deferred;

/// User agents remembered, below 32 MB; beyond that it begins anew.
const CACHED: usize = 16_384;

/// Bytes of a user agent that is remembered: the twin reads no more of it than that.
const REMEMBERED_BYTES_MAX: usize = 1_024;

/// `domain.user_agent.UserAgent`.
#[derive(FromPyObject)]
pub struct UserAgent {
    pub os: Option<String>,
    pub browser_family: Option<String>,
    pub browser_version: Option<String>,
    pub device_type: Option<String>,
}

/// What user agents say, as the twin has read them.
pub struct UserAgents {
    read: Py<PyAny>,
    known: HashMap<String, UserAgent>,
}

impl UserAgents {
    /// `read` is `domain.user_agent.read_user_agent`.
    pub fn new(read: Py<PyAny>) -> Self {
        Self { read, known: HashMap::new() }
    }

    /// What a user agent says. A long one, and one that the twin fails to read, is deferred.
    pub fn read(&mut self, text: &str) -> Result<&UserAgent, Deferred> {
        if text.len() > REMEMBERED_BYTES_MAX {
            return Err(Deferred);
        }
        if !self.known.contains_key(text) {
            let read = Python::attach(|py| self.read.call1(py, (text,))?.extract(py));
            let agent = read.map_err(|_: PyErr| Deferred)?;
            if self.known.len() >= CACHED {
                self.known.clear();
            }
            self.known.insert(text.to_owned(), agent);
        }
        self.known.get(text).ok_or(Deferred)
    }
}
