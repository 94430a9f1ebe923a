use corewire::Status;

macro_rules! more {
    () => {};
}

#[corewire::service]
pub trait Store {
    type Key;
    const LIMIT: usize;
    more!();

    async fn default(&self) -> Result<u64, Status> {
        Ok(1)
    }

    #[cfg(unix)]
    async fn sometimes(&self) -> Result<u64, Status>;
}

fn main() {}
