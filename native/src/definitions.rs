//! `contracts.definitions`: a snapshot of every definition.

use std::collections::HashSet;

use foldhash::{HashMap, HashMapExt};
use pyo3::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    Number,
    Integer,
    Boolean,
    Datetime,
    FixedChoice,
    MultipleChoice,
}

/// The type of one attribute or property.
#[derive(Clone, Debug)]
pub struct Definition {
    pub kind: Type,
    pub choices: HashSet<String>,
}

#[derive(Default)]
pub struct Event {
    /// Properties can be defined before their event is.
    pub is_defined: bool,
    pub properties: HashMap<String, Definition>,
}

#[derive(Default)]
pub struct Definitions {
    pub user: HashMap<String, Definition>,
    pub company: HashMap<String, Definition>,
    pub events: HashMap<String, Event>,
}

impl Definitions {
    /// Take a snapshot of `contracts.definitions.Definitions`.
    pub fn of(definitions: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut taken = Self::default();
        for item in definitions.getattr("_scopes")?.call_method0("items")?.try_iter()? {
            let (name, defined): (String, Bound<'_, PyAny>) = item?.extract()?;
            if name == "user" {
                taken.user = scope(&defined)?;
            } else if name == "company" {
                taken.company = scope(&defined)?;
            } else if let Some(event) = name.strip_prefix("event:") {
                taken.events.entry(event.to_owned()).or_default().properties = scope(&defined)?;
            }
        }
        for event in definitions.getattr("events")?.try_iter()? {
            taken.events.entry(event?.extract()?).or_default().is_defined = true;
        }
        Ok(taken)
    }
}

fn scope(definitions: &Bound<'_, PyAny>) -> PyResult<HashMap<String, Definition>> {
    let mut found = HashMap::new();
    for item in definitions.call_method0("items")?.try_iter()? {
        let (name, definition): (String, Bound<'_, PyAny>) = item?.extract()?;
        let kind = match definition.getattr("type")?.extract::<String>()?.as_str() {
            "string" => Type::String,
            "number" => Type::Number,
            "integer" => Type::Integer,
            "boolean" => Type::Boolean,
            "datetime" => Type::Datetime,
            "fixed_choice" => Type::FixedChoice,
            "multiple_choice" => Type::MultipleChoice,
            other => return Err(pyo3::exceptions::PyValueError::new_err(format!("no attribute type: {other:?}"))),
        };
        let choices =
            definition.getattr("choices")?.try_iter()?.map(|each| each?.extract()).collect::<PyResult<_>>()?;
        found.insert(name, Definition { kind, choices });
    }
    Ok(found)
}
