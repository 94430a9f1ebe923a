use corewire::Status;

#[corewire::service]
pub trait Store {
    async fn grow(&self, mut by: u64) -> Result<u64, Status>;
}

struct Memory;

// The pattern belongs here.
impl Store for Memory {
    async fn grow(&self, mut by: u64) -> Result<u64, Status> {
        by += 1;
        Ok(by)
    }
}

fn main() {}
