//! How types describe themselves: what they call to become a [`Schema`].

use core::any::TypeId;
use std::collections::HashMap;

use super::schema::{EnumSchema, Field, MessageSchema, Schema, Shape, Type};
use super::value::{Key, Map, Value};

impl Schema {
    /// The schema of a `T`. It is made anew by each call.
    #[must_use]
    pub fn of<T: Value>() -> Self {
        let mut schema = Self {
            root: Type::Empty,
            messages: Vec::new(),
            enums: Vec::new(),
            known: HashMap::new(),
        };
        schema.root = T::describe(&mut schema);
        schema
    }

    /// Adds the message `T`, unless it is there. `name` gives its name, `fields` adds its fields.
    pub fn message<T: 'static>(
        &mut self,
        name: impl FnOnce(&mut Self) -> String,
        fields: impl FnOnce(&mut Fields<'_>),
    ) -> Type {
        if let Some(&known) = self.known.get(&TypeId::of::<T>()) {
            return known;
        }
        let at = self.messages.len();
        // It is known before its fields are, so that a message may hold itself.
        self.known.insert(TypeId::of::<T>(), Type::Message(at));
        self.messages.push(MessageSchema::default());
        let name = name(self);
        let mut described = Fields { schema: self, message: MessageSchema::default() };
        fields(&mut described);
        let message = MessageSchema { name, ..described.message };
        if let Some(place) = self.messages.get_mut(at) {
            *place = message;
        }
        Type::Message(at)
    }

    /// Adds the enum `T`, unless it is there.
    pub fn enumeration<T: 'static>(
        &mut self,
        name: &str,
        values: &'static [(u32, &'static str)],
        keeps_unknown: bool,
    ) -> Type {
        if let Some(&known) = self.known.get(&TypeId::of::<T>()) {
            return known;
        }
        let ty = Type::Enum(self.enums.len());
        self.known.insert(TypeId::of::<T>(), ty);
        self.enums.push(EnumSchema { name: name.to_owned(), values, keeps_unknown });
        ty
    }
}

/// The fields of a message that is being described.
#[derive(Debug)]
pub struct Fields<'a> {
    schema: &'a mut Schema,
    message: MessageSchema,
}

impl Fields<'_> {
    fn add(
        &mut self,
        number: u32,
        [name, json_name]: [&'static str; 2],
        shape: Shape,
        ty: Type,
    ) -> &mut Self {
        self.message.fields.push(Field { number, name, json_name, shape, ty });
        self
    }

    /// Adds a field with one value.
    pub fn single<T: Value>(&mut self, number: u32, names: [&'static str; 2]) -> &mut Self {
        let ty = T::describe(self.schema);
        self.add(number, names, Shape::Single, ty)
    }

    /// Adds a field with one value or none.
    pub fn optional<T: Value>(&mut self, number: u32, names: [&'static str; 2]) -> &mut Self {
        let ty = T::describe(self.schema);
        self.add(number, names, Shape::Optional, ty)
    }

    /// Adds a field with a list.
    pub fn list<T: Value>(&mut self, number: u32, names: [&'static str; 2]) -> &mut Self {
        let ty = T::describe(self.schema);
        self.add(number, names, Shape::List, ty)
    }

    /// Adds a field with a map.
    pub fn map<M: Map>(&mut self, number: u32, names: [&'static str; 2]) -> &mut Self {
        let key = key_type::<M::Key>(self.schema);
        let ty = <M::Value as Value>::describe(self.schema);
        self.add(number, names, Shape::Map(key), ty)
    }

    /// Adds a variant without data.
    pub fn unit(&mut self, number: u32, names: [&'static str; 2]) -> &mut Self {
        self.add(number, names, Shape::Single, Type::Empty)
    }

    /// Says which numbers no field may have.
    pub fn reserve(&mut self, numbers: &'static [(u32, u32)]) -> &mut Self {
        self.message.reserved = numbers;
        self
    }

    /// Says that exactly one of the fields is there.
    pub fn one_of(&mut self) -> &mut Self {
        self.message.is_one_of = true;
        self
    }
}

fn key_type<K: Key>(schema: &mut Schema) -> Type {
    K::describe(schema)
}
