use corewire::Status;
use std::cell::RefCell;

#[corewire::service]
pub trait Store {
    #[blocking]
    fn compact(&self) -> Result<(), Status>;
    async fn get(&self) -> Result<u32, Status>;
}

struct Shelf(RefCell<u32>);

impl Store for Shelf {
    fn compact(&self) -> Result<(), Status> {
        Ok(())
    }

    async fn get(&self) -> Result<u32, Status> {
        Ok(*self.0.borrow())
    }
}

fn main() {}
