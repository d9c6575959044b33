//! Reading as Python sees it, so that tests can hold it against the twin.

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::call::{Call, Content, Identify, Kept, Read};
use crate::definitions::Definitions;
use crate::interpret::interpret;
use crate::rules::Rules;
use crate::user_agent::UserAgents;

/// Reads messages under some rules and definitions.
#[pyclass]
pub struct Reader {
    rules: Rules,
    definitions: Definitions,
    agents: UserAgents,
}

#[pymethods]
impl Reader {
    #[new]
    fn new(
        py: Python<'_>,
        blocked_ids: &Bound<'_, PyAny>,
        max_message_bytes: usize,
        future_tolerance_us: i64,
    ) -> PyResult<Self> {
        let blocked_ids = blocked_ids.try_iter()?.map(|each| each?.extract()).collect::<PyResult<_>>()?;
        let read_user_agent = py.import("domain.user_agent")?.getattr("read_user_agent")?;
        Ok(Self {
            rules: Rules::new(blocked_ids, max_message_bytes, future_tolerance_us),
            definitions: Definitions::default(),
            agents: UserAgents::new(read_user_agent.unbind()),
        })
    }

    /// Read under these definitions from now on.
    fn define(&mut self, definitions: &Bound<'_, PyAny>) -> PyResult<()> {
        self.definitions = Definitions::of(definitions)?;
        Ok(())
    }

    /// Read a record's value: None where the twin is to read it, a list of what is undefined, or what it says.
    ///
    /// That is: leaf, type, message_id, at, claim, warnings, and the content as a tuple. Fields and attributes of an
    /// identify call are lists of pairs; a track call of Engage has what it sets on the profile last.
    fn read<'py>(&self, py: Python<'py>, value: &[u8], timestamp_ms: i64) -> PyResult<Option<Bound<'py, PyAny>>> {
        match interpret(value, timestamp_ms, &self.rules, &self.definitions, &self.agents) {
            Read::Defer => Ok(None),
            Read::Undefined(pairs) => Ok(Some(pairs.into_pyobject(py)?.into_any())),
            Read::Call(call) => Ok(Some(told(py, call)?)),
        }
    }
}

fn told<'py>(py: Python<'py>, call: Call<'_>) -> PyResult<Bound<'py, PyAny>> {
    let kind = call.content.kind();
    let content = match call.content {
        Content::View(view) => {
            (view.url, view.path, view.title, view.referrer, view.name, view.properties).into_pyobject(py)?.into_any()
        }
        Content::Track(track) => {
            let traits = track.traits.map(|traits| told_traits(py, traits)).transpose()?;
            (track.event, track.properties, track.sent_properties, track.ignored, traits).into_pyobject(py)?.into_any()
        }
        Content::Group(group) => {
            let attributes = PyList::empty(py);
            for (name, value) in group.attributes {
                attributes.append((name, kept(py, &value)?))?;
            }
            (group.company_id, group.fields, attributes).into_pyobject(py)?.into_any()
        }
        Content::Identify(identify) => told_traits(py, identify)?,
    };
    let call = (call.leaf, kind, call.message_id, call.at, call.claim, call.warnings, content);
    Ok(call.into_pyobject(py)?.into_any())
}

fn told_traits<'py>(py: Python<'py>, identify: Identify<'_>) -> PyResult<Bound<'py, PyAny>> {
    let attributes = PyList::empty(py);
    for (name, value) in identify.attributes {
        attributes.append((name, kept(py, &value)?))?;
    }
    let membership = identify.membership.map(|membership| (membership.audience, membership.member));
    Ok((identify.fields, attributes, membership, identify.ignored).into_pyobject(py)?.into_any())
}

/// A value as `contracts.records.Kept` has it.
pub fn kept<'py>(py: Python<'py>, value: &Kept<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Kept::Null => py.None().into_bound(py),
        Kept::Bool(boolean) => boolean.into_pyobject(py)?.to_owned().into_any(),
        Kept::Int(number) => number.into_pyobject(py)?.into_any(),
        Kept::Float(number) => number.into_pyobject(py)?.into_any(),
        Kept::Text(text) => text.into_pyobject(py)?.into_any(),
        Kept::Json(text) => PyList::new(py, [text])?.into_any(),
    })
}
