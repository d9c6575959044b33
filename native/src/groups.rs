//! `domain.groups`: what a group call says of a company.

use jiter::JsonValue;

use crate::call::{Deferred, Group, Kept};
use crate::conversion::{keep, text};
use crate::decoding::{distinct, get, read_object, Object};
use crate::definitions::Definitions;
use crate::names::{bounded, strip, MAX_NAME_BYTES};

/// `contracts.definitions.COMPANY_SCOPE`.
const COMPANY_SCOPE: &str = "company";

/// `contracts.rows.COMPANY_FIELDS`.
const FIELDS: [&str; 6] = ["name", "email", "phone", "address", "description", "employees"];

/// Read a group call. Refused ones, and those with names that have to be cut, are deferred.
pub fn read_group<'a>(payload: &Object<'a>) -> Result<Group<'a>, Deferred> {
    let company_id = match get(payload, "groupId") {
        Some(JsonValue::Str(id)) => strip(id).to_owned(),
        Some(JsonValue::Int(id)) => id.to_string(),
        _ => return Err(Deferred),
    };
    if company_id.is_empty() {
        return Err(Deferred);
    }
    let traits = read_object(payload, "traits")?;
    distinct(traits)?;
    let mut fields = Vec::new();
    let mut attributes = Vec::with_capacity(traits.len());
    for (name, value) in traits {
        if let Some(field) = FIELDS.iter().find(|field| *field == name) {
            let value = if matches!(value, JsonValue::Null) { None } else { Some(text(value)?) };
            fields.push((*field, value));
        } else if name.len() > MAX_NAME_BYTES {
            return Err(Deferred);
        } else {
            attributes.push((name.clone(), keep(value)?));
        }
    }
    Ok(Group { company_id: bounded(company_id.into()).into_owned(), fields, attributes })
}

/// `missing`, for a group call.
pub fn undefined(found: &Group, definitions: &Definitions) -> Vec<(String, String)> {
    let attributes = found.attributes.iter();
    attributes
        .filter(|(name, value)| *value != Kept::Null && !definitions.company.contains_key(name.as_ref()))
        .map(|(name, _)| (COMPANY_SCOPE.to_owned(), name.to_string()))
        .collect()
}
