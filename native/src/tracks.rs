//! `domain.tracks`: what a track call records, typed by the definitions.

use jiter::JsonValue;

use crate::call::{Deferred, Identify, Occurrence, Warning, IGNORED_PROPERTY};
use crate::conversion::{convert, write_json, write_text, Converted};
use crate::decoding::{distinct, get, has, read_object, Object};
use crate::definitions::Definitions;
use crate::engage::{computed, read_membership};
use crate::identify::{self, read_traits};
use crate::names::{bounded, strip};

/// Bytes of a name that is surely not cut.
const SHORT: usize = 128;

/// Stands for the scope of event names themselves: `contracts.definitions.EVENTS`.
const EVENTS: &str = "event";

pub enum Track<'a> {
    Occurrence(Occurrence<'a>),
    /// `(scope, name)` pairs that nothing defines yet.
    Undefined(Vec<(String, String)>),
}

/// Read a track call. Those with long names of properties are deferred.
pub fn read_track<'a>(
    payload: &Object<'a>,
    context: &Object<'a>,
    definitions: &Definitions,
    warnings: &mut Vec<Warning>,
) -> Result<Track<'a>, Deferred> {
    let Some(JsonValue::Str(event)) = get(payload, "event") else {
        return Err(Deferred);
    };
    if strip(event).is_empty() {
        return Err(Deferred);
    }
    let event = bounded(event.clone());
    let properties = read_object(payload, "properties")?;
    distinct(properties)?;
    if properties.iter().any(|(name, _)| name.len() > SHORT) {
        return Err(Deferred);
    }
    let traits = if has(context, "personas") { read_engage(context, properties, warnings)? } else { None };
    let known = definitions.events.get(event.as_ref());
    let mut undefined = Vec::new();
    if known.is_none_or(|known| !known.is_defined) {
        undefined.push((EVENTS.to_owned(), event.to_string()));
    }
    let mut typed = String::with_capacity(256);
    let mut is_as_sent = true;
    let mut ignored = Vec::new();
    typed.push('{');
    for (name, value) in properties {
        if matches!(value, JsonValue::Null) {
            is_as_sent = false;
            continue;
        }
        let Some(definition) = known.and_then(|known| known.properties.get(name.as_ref())) else {
            undefined.push((format!("{EVENTS}:{event}"), name.to_string()));
            continue;
        };
        let converted = convert(value, definition)?;
        let written = match &converted {
            Converted::Same(value) => *value,
            Converted::Other(value) => {
                is_as_sent = false;
                value
            }
            Converted::Unconvertible => {
                is_as_sent = false;
                ignored.push(IGNORED_PROPERTY);
                continue;
            }
        };
        if typed.len() > 1 {
            typed.push(',');
        }
        write_text(name, &mut typed);
        typed.push(':');
        write_json(written, &mut typed)?;
    }
    typed.push('}');
    if let Some(traits) = &traits {
        undefined.extend(identify::undefined(traits, definitions));
    }
    if !undefined.is_empty() {
        return Ok(Track::Undefined(undefined));
    }
    let sent_properties = match get(payload, "properties") {
        Some(object @ JsonValue::Object(_)) if !is_as_sent => {
            let mut sent = String::with_capacity(typed.len() + 64);
            write_json(object, &mut sent)?;
            Some(sent)
        }
        _ => None,
    };
    Ok(Track::Occurrence(Occurrence { event, properties: typed, sent_properties, ignored, traits }))
}

/// `_read_engage`: what the call sets on the profile, the audience's or the computed trait's value as any trait.
fn read_engage<'a>(
    context: &Object<'a>,
    properties: &Object<'a>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Identify<'a>>, Deferred> {
    let find = |key: &str| properties.iter().find(|(name, _)| name == key).map(|(name, value)| (name, value));
    let (membership, found) = match read_membership(context, find, Some("audience_key"), warnings) {
        Some((membership, found)) => (Some(membership), found),
        None => match computed(context, find) {
            Some(found) => (None, found),
            None => return Ok(None),
        },
    };
    Ok(Some(Identify { membership, ..read_traits(&[found])? }))
}
