//! A value of the file, checked against the declaration of its key.

use std::fmt;
use std::path::PathBuf;

use toml::de::DeValue;

use super::schema::{Item, Kind, nearest};

/// A value that fits its declaration.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Integer(u64),
    Boolean(bool),
    Text(String),
    Path(PathBuf),
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Path(path) => write!(f, "{path:?}"),
            Self::List(texts) => write!(f, "{texts:?}"),
        }
    }
}

/// A value by the declaration of its key, or why it is none.
pub(super) fn value_of(kind: Kind, value: &DeValue<'_>) -> Result<Value, String> {
    match kind {
        Kind::Integer { min, max, .. } => integer_of(value, min, max).map(Value::Integer),
        Kind::Boolean => value
            .as_bool()
            .map(Value::Boolean)
            .ok_or_else(|| not_a(value)),
        Kind::Text | Kind::File(_) => text_of(value).map(Value::Text),
        Kind::Choice(choices) => {
            let text = text_of(value)?;
            choice_of(&text, choices)?;
            Ok(Value::Text(text))
        }
        Kind::List(item) => {
            let array = value.as_array().ok_or_else(|| not_a(value))?;
            let texts = array.iter().map(|value| {
                if let Item::Port = item {
                    return Ok(integer_of(value.get_ref(), 1, 65_535)?.to_string());
                }
                let text = text_of(value.get_ref())?;
                if let Item::Choice(choices) = item {
                    choice_of(&text, choices)?;
                }
                Ok(text)
            });
            texts.collect::<Result<Vec<_>, String>>().map(Value::List)
        }
    }
}

fn integer_of(value: &DeValue<'_>, min: u64, max: u64) -> Result<u64, String> {
    let integer = value.as_integer().ok_or_else(|| not_a(value))?;
    let number = i128::from_str_radix(integer.as_str(), integer.radix());
    match number.ok().and_then(|number| u64::try_from(number).ok()) {
        Some(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err("is out of range".to_owned()),
    }
}

fn text_of(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| not_a(value))?;
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("contains a control character".to_owned());
    }
    Ok(text.to_owned())
}

fn choice_of(text: &str, choices: &'static [&'static str]) -> Result<(), String> {
    if choices.contains(&text) {
        return Ok(());
    }
    match nearest(text, choices.iter().copied()) {
        Some(near) => Err(format!(
            "is not one of the choices; did you mean \"{near}\"?"
        )),
        None => Err("is not one of the choices".to_owned()),
    }
}

fn not_a(value: &DeValue<'_>) -> String {
    let article = if ["integer", "array"].contains(&value.type_str()) {
        "an"
    } else {
        "a"
    };
    format!("is {article} {}", value.type_str())
}
