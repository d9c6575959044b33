//! `domain.identify`: what an identify call sets on a profile.

use std::borrow::Cow;

use jiter::JsonValue;

use crate::call::{Deferred, Identify, Kept, Warning, IGNORED_FIELD};
use crate::conversion::{keep, text};
use crate::decoding::{distinct, get, has, part, read_object, text_of, Object};
use crate::definitions::Definitions;
use crate::engage::{read_membership, Found};
use crate::names::{strip, MAX_NAME_BYTES};
use crate::user_agent::UserAgents;

/// `contracts.definitions.USER_SCOPE`.
const USER_SCOPE: &str = "user";

/// No screen has as many; a double counts exactly up to here.
const PIXELS_END: f64 = 9_007_199_254_740_992.0;

/// Comparisons of names that cost less than the twin: two objects of 64 traits each.
const COMPARED_MAX: usize = 4_096;

/// Traits by name, each once.
type Traits<'v, 'a> = Vec<Found<'v, 'a>>;

/// Read an identify call. Those with names that have to be cut are deferred.
pub fn read_identify<'a>(
    payload: &Object<'a>,
    context: &Object<'a>,
    agents: &UserAgents,
    warnings: &mut Vec<Warning>,
) -> Result<Identify<'a>, Deferred> {
    let traits = merged(read_object(payload, "traits")?, part(context, "traits", warnings))?;
    let mut found = read_traits(&traits)?;
    read_context(context, &mut found, agents, warnings)?;
    if has(context, "personas") {
        let find = |key: &str| traits.iter().copied().find(|(name, _)| *name == key);
        found.membership = read_membership(context, find, None, warnings).map(|(membership, _)| membership);
    }
    Ok(found)
}

/// `missing`, for an identify call.
pub fn undefined(found: &Identify, definitions: &Definitions) -> Vec<(String, String)> {
    let attributes = found.attributes.iter();
    attributes
        .filter(|(name, value)| *value != Kept::Null && !definitions.user.contains_key(name.as_ref()))
        .map(|(name, _)| (USER_SCOPE.to_owned(), name.to_string()))
        .collect()
}

/// Traits of the call, and those of the context that are not among them: in the order of `{**further, **traits}`.
fn merged<'v, 'a>(traits: &'v Object<'a>, further: &'v Object<'a>) -> Result<Traits<'v, 'a>, Deferred> {
    distinct(traits)?;
    distinct(further)?;
    if traits.len() * further.len() > COMPARED_MAX {
        return Err(Deferred);
    }
    let mut all: Traits = Vec::with_capacity(traits.len() + further.len());
    for (name, value) in further {
        let own = traits.iter().find(|(own, _)| own == name);
        all.push((name, own.map_or(value, |(_, value)| value)));
    }
    all.extend(traits.iter().filter(|(name, _)| !has(further, name)).map(|(name, value)| (name, value)));
    Ok(all)
}

/// `read_traits`: tell standard fields from custom attributes.
pub fn read_traits<'a>(traits: &[Found<'_, 'a>]) -> Result<Identify<'a>, Deferred> {
    let mut found = Identify::default();
    found.attributes.reserve(traits.len());
    for &(name, value) in traits {
        match (name.as_ref(), value) {
            ("email", _) => set_text(&mut found, "email", value)?,
            ("phone", _) => set_text(&mut found, "phone", value)?,
            ("gender", _) => set_text(&mut found, "gender", value)?,
            ("first_name", _) => set_text(&mut found, "first_name", value)?,
            ("last_name", _) => set_text(&mut found, "last_name", value)?,
            ("firstName" | "lastName" | "name", _) => {}
            ("address", JsonValue::Object(address)) => read_address(address, &mut found)?,
            ("address", JsonValue::Null) => {
                found.fields.extend([("country", None), ("region", None), ("city", None)]);
            }
            _ if name.len() > MAX_NAME_BYTES => return Err(Deferred),
            _ => found.attributes.push((name.clone(), keep(value)?)),
        }
    }
    read_names(traits, &mut found)?;
    Ok(found)
}

fn set_text<'a>(found: &mut Identify<'a>, name: &'static str, value: &JsonValue<'a>) -> Result<(), Deferred> {
    match value {
        JsonValue::Null => found.fields.push((name, None)),
        JsonValue::Array(_) | JsonValue::Object(_) => found.ignored.push(IGNORED_FIELD),
        _ => found.fields.push((name, Some(text(value)?))),
    }
    Ok(())
}

fn read_address<'a>(address: &Object<'a>, found: &mut Identify<'a>) -> Result<(), Deferred> {
    let region = if has(address, "region") { "region" } else { "state" };
    for (name, key) in [("country", "country"), ("region", region), ("city", "city")] {
        if let Some((_, value)) = address.iter().rev().find(|(own, _)| own == key) {
            set_text(found, name, value)?;
        }
    }
    Ok(())
}

/// `_read_names`: fill first and last name from camelCase, and what is absent in both spellings from `name`.
fn read_names<'a>(traits: &[Found<'_, 'a>], found: &mut Identify<'a>) -> Result<(), Deferred> {
    let get = |name| traits.iter().find(|(own, _)| *own == name).map(|&(_, value)| value);
    let mut has_first = get("first_name").is_some();
    let mut has_last = get("last_name").is_some();
    if let (false, Some(value)) = (has_first, get("firstName")) {
        has_first = true;
        set_text(found, "first_name", value)?;
    }
    if let (false, Some(value)) = (has_last, get("lastName")) {
        has_last = true;
        set_text(found, "last_name", value)?;
    }
    let Some(name) = get("name").filter(|_| !(has_first && has_last)) else {
        return Ok(());
    };
    let (mut first, mut last) = (None, None);
    match name {
        JsonValue::Array(_) | JsonValue::Object(_) => {
            found.ignored.push(IGNORED_FIELD);
            return Ok(());
        }
        JsonValue::Null => {}
        _ => {
            let name = text(name)?;
            if let Some((before, after)) = strip(&name).split_once(' ') {
                (first, last) = (Some(before.to_owned().into()), Some(after.to_owned().into()));
            } else {
                has_last = true;
                first = Some(strip(&name).to_owned().into());
            }
        }
    }
    if !has_first {
        found.fields.push(("first_name", first));
    }
    if !has_last {
        found.fields.push(("last_name", last));
    }
    Ok(())
}

/// `_read_context`: add what the context says of system, device, browser and place.
fn read_context<'a>(
    context: &Object<'a>,
    found: &mut Identify<'a>,
    agents: &UserAgents,
    warnings: &mut Vec<Warning>,
) -> Result<(), Deferred> {
    let fields = &mut found.fields;
    let mut set = |name, value: Option<Cow<'a, str>>| {
        if value.is_some() {
            fields.push((name, value));
        }
    };
    set("ip_address", filled(context, "ip", warnings));
    set("timezone", filled(context, "timezone", warnings));
    set("language", filled(context, "locale", warnings));
    set("current_url", filled(part(context, "page", warnings), "url", warnings));
    let device = part(context, "device", warnings);
    let device_name = filled(device, "name", warnings);
    set("device_name", device_name.or_else(|| filled(device, "model", warnings)));
    let mut os = filled(part(context, "os", warnings), "name", warnings);
    let mut device_type = filled(device, "type", warnings);
    if let Some(user_agent) = filled(context, "userAgent", warnings) {
        let agent = agents.read(&user_agent)?;
        set("user_agent", Some(user_agent));
        os = os.or_else(|| agent.os.clone().map(Cow::Owned));
        device_type = device_type.or_else(|| agent.device_type.clone().map(Cow::Owned));
        if agent.browser_family.is_some() {
            set("browser_family", agent.browser_family.clone().map(Cow::Owned));
            set("browser_version", agent.browser_version.clone().map(Cow::Owned));
        }
    }
    set("os", os);
    set("device_type", device_type);
    let screen = part(context, "screen", warnings);
    if let (Some(width), Some(height)) = (pixels(get(screen, "width"))?, pixels(get(screen, "height"))?) {
        set("resolution", Some(format!("{width}x{height}").into()));
    }
    Ok(())
}

/// A text that is not empty.
fn filled<'a>(of: &Object<'a>, key: &str, warnings: &mut Vec<Warning>) -> Option<Cow<'a, str>> {
    text_of(of, key, warnings).filter(|text| !text.is_empty())
}

/// `_pixels`; a float that no 64-bit integer equals is deferred.
fn pixels(value: Option<&JsonValue>) -> Result<Option<String>, Deferred> {
    Ok(match value {
        Some(JsonValue::Int(number)) => Some(number.to_string()),
        Some(JsonValue::Float(number)) if number.abs() >= PIXELS_END => return Err(Deferred),
        Some(JsonValue::Float(number)) if number.fract() == 0.0 => Some((*number as i64).to_string()),
        Some(JsonValue::Str(text)) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let digits = text.trim_start_matches('0');
            Some(if digits.is_empty() { "0" } else { digits }.to_owned())
        }
        _ => None,
    })
}
