use corewire::Status;
use std::borrow::Cow;

#[corewire::service]
pub trait Store {
    async fn text(&self, key: &str) -> Result<(), Status>;
    async fn slice(&self, key: u8, value: &[u8]) -> Result<(), Status>;
    async fn inner(&self, keys: Vec<(&String, u8)>) -> Result<(), Status>;
    async fn borrowed(&self, key: Cow<'_, str>) -> Result<(), Status>;
    async fn own(&self, other: Box<Self>) -> Result<(), Status>;
    async fn pair(&self, (left, right): (u8, u8)) -> Result<(), Status>;
    async fn nameless(&self, _: String) -> Result<(), Status>;
    async fn attribute(&self, #[allow(unused)] key: String) -> Result<(), Status>;
    async fn reply(&self) -> Result<&'static str, Status>;
}

fn main() {}
