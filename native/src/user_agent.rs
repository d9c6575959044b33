//! `domain.user_agent`, asked once for each user agent.

use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;
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

/// What user agents say, as the twin has read them. Threads share it: the lock is never held while Python is asked,
/// where another thread may get its turn.
pub struct UserAgents {
    read: Py<PyAny>,
    known: Mutex<HashMap<String, Arc<UserAgent>>>,
}

impl UserAgents {
    /// `read` is `domain.user_agent.read_user_agent`.
    pub fn new(read: Py<PyAny>) -> Self {
        Self { read, known: Mutex::default() }
    }

    /// What a user agent says. A long one, and one that the twin fails to read, is deferred.
    pub fn read(&self, text: &str) -> Result<Arc<UserAgent>, Deferred> {
        if text.len() > REMEMBERED_BYTES_MAX {
            return Err(Deferred);
        }
        if let Some(agent) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Ok(agent.clone());
        }
        let read = Python::attach(|py| self.read.call1(py, (text,))?.extract::<UserAgent>(py));
        let agent = Arc::new(read.map_err(|_: PyErr| Deferred)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHED {
            known.clear();
        }
        known.insert(text.to_owned(), agent.clone());
        Ok(agent)
    }
}
