//! What is the same in every cycle of a worker, and how a cycle begins.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::cycle::Cycle;
use crate::definitions::Definitions;
use crate::incoming::Record;
use crate::rules::Rules;
use crate::user_agent::UserAgents;

/// What is the same in every cycle of a worker.
#[pyclass(frozen)]
pub struct Leaves {
    pub rules: Rules,
    pub leaves_topic: Py<PyString>,
    pub leaves_partitions: u64,
    pub companies_topic: Py<PyString>,
    pub companies_partitions: u64,
    pub rows: Rows,
    definitions: Mutex<Option<(Py<PyAny>, Arc<Definitions>)>>,
    pub agents: UserAgents,
    pub json_text: Py<PyAny>,
}

/// The named tuples that rows and records are handed over in.
pub struct Rows {
    pub page_view: Py<PyAny>,
    pub occurrence: Py<PyAny>,
    pub counters: Py<PyAny>,
    pub profile: Py<PyAny>,
    pub identity: Py<PyAny>,
    pub member: Py<PyAny>,
    pub outgoing: Py<PyAny>,
    pub membership: Py<PyAny>,
    pub change: Py<PyAny>,
    new: Py<PyAny>,
}

#[pymethods]
impl Leaves {
    #[new]
    #[allow(clippy::too_many_arguments, reason = "settings, by position")]
    fn new(
        blocked_ids: &Bound<'_, PyAny>,
        max_message_bytes: usize,
        future_tolerance_us: i64,
        leaves_topic: Py<PyString>,
        leaves_partitions: u64,
        companies_topic: Py<PyString>,
        companies_partitions: u64,
        rows: &Bound<'_, PyTuple>,
        read_user_agent: Py<PyAny>,
        json_text: Py<PyAny>,
    ) -> PyResult<Self> {
        let blocked_ids = blocked_ids.try_iter()?.map(|each| each?.extract()).collect::<PyResult<_>>()?;
        let row = |place| -> PyResult<Py<PyAny>> { Ok(rows.get_item(place)?.unbind()) };
        Ok(Self {
            rules: Rules::new(blocked_ids, max_message_bytes, future_tolerance_us),
            leaves_topic,
            leaves_partitions,
            companies_topic,
            companies_partitions,
            rows: Rows {
                page_view: row(0)?,
                occurrence: row(1)?,
                counters: row(2)?,
                profile: row(3)?,
                identity: row(4)?,
                member: row(5)?,
                outgoing: row(6)?,
                membership: row(7)?,
                change: row(8)?,
                new: rows.py().get_type::<PyTuple>().getattr("__new__")?.unbind(),
            },
            definitions: Mutex::new(None),
            json_text,
            agents: UserAgents::new(read_user_agent),
        })
    }

    /// One cycle over these records; `applied` is S, `committed` is P.
    fn cycle(
        this: Py<Self>,
        py: Python<'_>,
        records: &Bound<'_, PyAny>,
        applied: i64,
        committed: i64,
        highs: &Bound<'_, PyAny>,
    ) -> PyResult<Cycle> {
        Cycle::begin(py, this, Record::all(records)?, applied, committed, highs)
    }
}

impl Leaves {
    /// The snapshot of these definitions, of which the latest is kept.
    pub fn definitions(&self, definitions: &Bound<'_, PyAny>) -> PyResult<Arc<Definitions>> {
        if let Some((of, snapshot)) = self.definitions.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            if of.bind(definitions.py()).is(definitions) {
                return Ok(snapshot.clone());
            }
        }
        let snapshot = Arc::new(Definitions::of(definitions)?);
        let kept = Some((definitions.clone().unbind(), snapshot.clone()));
        // What it replaces is let go of without the lock: that may run Python.
        let replaced = std::mem::replace(&mut *self.definitions.lock().unwrap_or_else(PoisonError::into_inner), kept);
        drop(replaced);
        Ok(snapshot)
    }

    /// A named tuple of one of the classes in `rows`.
    pub fn named<'py>(
        &self,
        py: Python<'py>,
        class: &Py<PyAny>,
        row: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.rows.new.bind(py).call1((class, row))
    }
}
