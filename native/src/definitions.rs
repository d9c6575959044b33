//! `contracts.definitions`: a snapshot of every definition.

use std::collections::{HashMap, HashSet};

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
pub struct Definitions {
    pub user: HashMap<String, Definition>,
    /// Defined events, with their properties.
    pub events: HashMap<String, HashMap<String, Definition>>,
}

impl Definitions {
    /// Take a snapshot of `contracts.definitions.Definitions`.
    pub fn of(definitions: &Bound<'_, PyAny>) -> PyResult<Self> {
        let user = scope(&definitions.call_method1("scope", ("user",))?)?;
        let mut events = HashMap::new();
        for event in definitions.getattr("events")?.try_iter()? {
            let event: String = event?.extract()?;
            let properties = scope(&definitions.call_method1("scope", (format!("event:{event}"),))?)?;
            events.insert(event, properties);
        }
        Ok(Self { user, events })
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
        let choices = definition.getattr("choices")?.try_iter()?.map(|each| each?.extract()).collect::<PyResult<_>>()?;
        found.insert(name, Definition { kind, choices });
    }
    Ok(found)
}
