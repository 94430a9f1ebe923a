use corewire::Status;

#[corewire::service]
pub trait Store<'a, K: Clone> {
    async fn get(&self, key: K) -> Result<(), Status>;
}

#[corewire::service]
pub trait Sized2
where
    Self: Sized,
{
    async fn get(&self) -> Result<(), Status>;
}

#[corewire::service]
pub trait Methods {
    async fn get<K: Clone>(&self, key: K) -> Result<(), Status>;
    async fn put(&self) -> Result<(), Status>
    where
        Self: Sized;
    async fn any(&self, key: impl Into<String>) -> Result<(), Status>;
}

fn main() {}
