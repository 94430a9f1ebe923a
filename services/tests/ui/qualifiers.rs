use corewire::Status;

#[corewire::service]
pub unsafe trait Store {
    async fn get(&self) -> Result<(), Status>;
}

#[corewire::service]
pub trait Methods {
    fn blocking(&self) -> Result<(), Status>;
    async unsafe fn risky(&self) -> Result<(), Status>;
    async extern "C" fn foreign(&self) -> Result<(), Status>;
}

fn main() {}
