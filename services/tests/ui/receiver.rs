use corewire::Status;

#[corewire::service]
pub trait Store {
    async fn none() -> Result<(), Status>;
    async fn only_an_argument(key: String) -> Result<(), Status>;
    async fn exclusive(&mut self) -> Result<(), Status>;
    async fn consumed(self) -> Result<(), Status>;
    async fn typed(self: &Self) -> Result<(), Status>;
    async fn counted(self: std::rc::Rc<Self>) -> Result<(), Status>;
}

fn main() {}
