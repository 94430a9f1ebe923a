#[corewire::service]
struct Store {
    values: Vec<u8>,
}

#[corewire::service(name = "store")]
impl Store {}

#[corewire::service]
pub async fn store() {}

fn main() {
    // The items are still there: no complaint follows from the macro's own.
    let _ = Store { values: Vec::new() };
    let _ = store();
}
