//! What `#[corewire::main]` refuses. Each at its token.

mod sync {
    #[corewire::main]
    fn main() {}
}

mod arguments {
    #[corewire::main]
    async fn main(arguments: Vec<String>) {}
}

mod generic {
    #[corewire::main]
    async unsafe fn main<T>() {}
}

mod options {
    #[corewire::main(cpus = 2, cpu = 1, cpu = 2)]
    async fn main() {}
}

mod value {
    #[corewire::main(cpu = "second")]
    async fn main() {}
}

mod structure {
    #[corewire::main]
    struct Main;
}

#[corewire::main]
async fn main() -> Result<(), std::fmt::Error> {
    let address: std::net::SocketAddr = "127.0.0.1:7000".parse()?;
    Ok(())
}
