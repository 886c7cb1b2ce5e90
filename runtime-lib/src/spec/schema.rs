//! The members of every object of a type, as its own reading of a document asks for them: for
//! the tests that hold tables against types.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

/// Members by place; `*` is any member or element.
pub type Schema = BTreeMap<String, BTreeSet<&'static str>>;

/// The objects of a type.
pub fn of<T: DeserializeOwned>() -> Schema {
    let found = RefCell::new(Schema::new());
    let whole = Asked {
        place: String::new(),
        found: &found,
    };
    if let Err(error) = T::deserialize(whole) {
        panic!("{error}");
    }
    found.into_inner()
}

/// Gives each value that is asked for: the smallest there is.
#[derive(Clone)]
struct Asked<'s> {
    place: String,
    found: &'s RefCell<Schema>,
}

impl Asked<'_> {
    fn inside(&self, name: &str) -> Self {
        Asked {
            place: format!("{}/{name}", self.place),
            found: self.found,
        }
    }
}

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // Of a set of capabilities, no element is the smallest.
        let names = match self.place.starts_with("/process/capabilities/") {
            true => Vec::new(),
            false => vec!["*"],
        };
        visitor.visit_seq(Inside { of: self, names })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let names = vec!["*"];
        visitor.visit_map(Inside { of: self, names })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let members = fields.iter().copied().collect();
        self.found.borrow_mut().insert(self.place.clone(), members);
        let names = fields.iter().rev().copied().collect();
        visitor.visit_map(Inside { of: self, names })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let first = words.first().copied().unwrap_or_default();
        visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(first))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct identifier ignored_any
    }
}

/// What is inside of an array or an object; the next name is the last.
struct Inside<'s> {
    of: Asked<'s>,
    names: Vec<&'static str>,
}

impl<'de> SeqAccess<'de> for Inside<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let name = self.names.pop();
        name.map(|name| seed.deserialize(self.of.inside(name)))
            .transpose()
    }
}

impl<'de> MapAccess<'de> for Inside<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let name = self.names.last();
        name.map(|name| seed.deserialize(StrDeserializer::new(name)))
            .transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let name = self.names.pop().unwrap_or_default();
        seed.deserialize(self.of.inside(name))
    }
}
