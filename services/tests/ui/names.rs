use corewire::Status;

#[corewire::service]
pub trait Reserved {
    async fn new(&self) -> Result<(), Status>;
    async fn connect(&self) -> Result<(), Status>;
    async fn with_timeout(&self) -> Result<(), Status>;
    async fn without_timeout(&self) -> Result<(), Status>;
    async fn channel(&self) -> Result<(), Status>;
    async fn clone(&self) -> Result<(), Status>;
}

#[corewire::service]
pub trait Twice {
    async fn get(&self) -> Result<(), Status>;
    #[corewire(name = "get")]
    async fn fetch(&self) -> Result<(), Status>;
}

// FNV-1a gives these two names one id under this service's name, and different ones under most others.
#[corewire::service]
pub trait Collide {
    async fn stop_prefix_metric(&self) -> Result<(), Status>;
    async fn sum_find_first(&self) -> Result<(), Status>;
}

fn main() {}
