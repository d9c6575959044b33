//! Reading one Segment message: `domain.calls.interpret`, and for tracks `domain.tracks.occurrence` besides.

use std::borrow::Cow;

use jiter::JsonValue;

use crate::call::{Call, Content, Deferred, Read, WRONG_SHAPE};
use crate::conversion::text;
use crate::decoding::{decode, get, Object};
use crate::definitions::Definitions;
use crate::groups::{self, read_group};
use crate::identify::{read_identify, undefined};
use crate::names::bounded;
use crate::rules::Rules;
use crate::timing::event_time;
use crate::tracks::{read_track, Track};
use crate::user_agent::UserAgents;
use crate::views::read_view;

/// Read a record's value; `timestamp_ms` is the Kafka time of the source record.
pub fn interpret<'a>(
    value: &'a [u8],
    timestamp_ms: i64,
    rules: &Rules,
    definitions: &Definitions,
    agents: &UserAgents,
) -> Read<'a> {
    read(value, timestamp_ms, rules, definitions, agents).unwrap_or(Read::Defer)
}

fn read<'a>(
    value: &'a [u8],
    timestamp_ms: i64,
    rules: &Rules,
    definitions: &Definitions,
    agents: &UserAgents,
) -> Result<Read<'a>, Deferred> {
    let decoded = decode(value, rules.max_message_bytes)?;
    let JsonValue::Object(payload) = &decoded else {
        return Err(Deferred);
    };
    let Some(JsonValue::Str(kind)) = get(payload, "type") else {
        return Err(Deferred);
    };
    let mut warnings = Vec::new();
    let identity = rules.read_identity(payload, &mut warnings)?;
    let at = event_time(payload, timestamp_ms, rules.future_tolerance_us, &mut warnings)?;
    let message_id = message_id(payload)?;
    let context: &Object = match get(payload, "context") {
        Some(JsonValue::Object(context)) => context,
        None => &[],
        Some(_) => {
            warnings.push(WRONG_SHAPE);
            &[]
        }
    };
    let content = match kind.as_ref() {
        "track" => match read_track(payload, context, definitions, &mut warnings)? {
            Track::Occurrence(occurrence) => Content::Track(occurrence),
            Track::Undefined(pairs) => return Ok(Read::Undefined(pairs)),
        },
        "page" => Content::View(read_view(payload, context, "page", &mut warnings)?),
        "screen" => Content::View(read_view(payload, context, "screen", &mut warnings)?),
        "identify" => {
            let identify = read_identify(payload, context, agents, &mut warnings)?;
            let pairs = undefined(&identify, definitions);
            if !pairs.is_empty() {
                return Ok(Read::Undefined(pairs));
            }
            Content::Identify(identify)
        }
        "group" => {
            let group = read_group(payload)?;
            let pairs = groups::undefined(&group, definitions);
            if !pairs.is_empty() {
                return Ok(Read::Undefined(pairs));
            }
            Content::Group(group)
        }
        _ => return Err(Deferred),
    };
    Ok(Read::Call(Call { leaf: identity.leaf, message_id, at, claim: identity.claim, warnings, content }))
}

/// `_message_id`, where the message has one.
fn message_id<'a>(payload: &Object<'a>) -> Result<Cow<'a, str>, Deferred> {
    match get(payload, "messageId") {
        Some(JsonValue::Str(id)) if !id.is_empty() => Ok(bounded(id.clone())),
        Some(number @ (JsonValue::Int(_) | JsonValue::Float(_))) => text(number),
        _ => Err(Deferred),
    }
}
