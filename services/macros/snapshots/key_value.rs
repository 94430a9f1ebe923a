/// Keeps values under keys.
#[allow(
    async_fn_in_trait,
    dead_code,
    reason = "calls stay on their shard, so futures need not be Send; a program may use one side only"
)]
pub trait KeyValue: 'static {
    /// The value under `key`.
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Status>;
    async fn put(
        &self,
        context: &Context,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), Status>;
    async fn say_again(&self, payload: Bytes) -> Result<Bytes, Status>;
    async fn count(&self) -> Result<u64, Status>;
    async fn touch(&self, key: String);
    async fn watch(&self, prefix: String) -> Result<Streaming<Vec<u8>>, Status>;
    async fn load(
        &self,
        size: u64,
        name: String,
        parts: Streaming<Bytes>,
    ) -> Result<u64, Status>;
    async fn sync(&self, edits: Streaming<u64>) -> Result<Streaming<Bytes>, Status>;
}
/// Serves the service `kv.KeyValue` with an implementation of [`KeyValue`].
///
/// A clone serves with the same implementation.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a program may use one side of a service only"
)]
pub struct KeyValueServer<T>(::std::rc::Rc<T>);
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a program may use one side of a service only"
)]
impl<T: KeyValue> KeyValueServer<T> {
    /// Serves with `service`.
    #[must_use]
    pub fn new(service: T) -> Self {
        Self(::std::rc::Rc::new(service))
    }
    /// Serves with an implementation that other parts of the shard hold, too.
    #[must_use]
    pub fn from_rc(service: ::std::rc::Rc<T>) -> Self {
        Self(service)
    }
}
impl<T> ::core::clone::Clone for KeyValueServer<T> {
    fn clone(&self) -> Self {
        Self(::core::clone::Clone::clone(&self.0))
    }
}
impl<T> ::core::fmt::Debug for KeyValueServer<T> {
    fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        formatter.debug_struct("KeyValueServer").finish_non_exhaustive()
    }
}
#[allow(
    deprecated,
    unused_variables,
    reason = "old methods are still served; a service may have none"
)]
impl<T: KeyValue> ::corewire::Service for KeyValueServer<T> {
    fn description(&self) -> &'static ::corewire::ServiceDescription {
        KeyValueClient::DESCRIPTION
    }
    fn register(self, methods: &mut ::corewire::generated::Methods) {
        fn make_0<T: KeyValue>(
            room: ::corewire::generated::Room<'_, T>,
        ) -> ::corewire::generated::Handler {
            room.unary(
                ::corewire::generated::carried::<
                    ::corewire::codec::Speedy,
                    Option<Vec<u8>>,
                >(),
                |
                    service: &::std::rc::Rc<T>,
                    call: &mut ::corewire::generated::IncomingCall<'_, '_>|
                {
                    let mut arguments = call.arguments();
                    let key: String = arguments
                        .read(
                            "key",
                            ::corewire::generated::argument::<
                                ::corewire::codec::Speedy,
                                String,
                            >(),
                        )?;
                    arguments.finish()?;
                    call.check_key(|| ::corewire::key_hash::<String>(&key))?;
                    let service = ::core::clone::Clone::clone(service);
                    ::core::result::Result::Ok(async move {
                        let reply: ::core::result::Result<_, ::corewire::Status> = <T as KeyValue>::get(
                                &*service,
                                key,
                            )
                            .await;
                        reply
                    })
                },
            )
        }
        fn make_1<T: KeyValue>(
            room: ::corewire::generated::Room<'_, T>,
        ) -> ::corewire::generated::Handler {
            room.unary(
                ::corewire::generated::carried::<::corewire::codec::Speedy, ()>(),
                |
                    service: &::std::rc::Rc<T>,
                    call: &mut ::corewire::generated::IncomingCall<'_, '_>|
                {
                    let mut arguments = call.arguments();
                    let key: String = arguments
                        .read(
                            "key",
                            ::corewire::generated::argument::<
                                ::corewire::codec::Speedy,
                                String,
                            >(),
                        )?;
                    let value: Vec<u8> = arguments
                        .read(
                            "value",
                            ::corewire::generated::argument::<
                                ::corewire::codec::Speedy,
                                Vec<u8>,
                            >(),
                        )?;
                    arguments.finish()?;
                    call.check_key(|| ::corewire::key_hash::<String>(&key))?;
                    let context: ::corewire::Context = call.context();
                    let service = ::core::clone::Clone::clone(service);
                    ::core::result::Result::Ok(async move {
                        let reply: ::core::result::Result<_, ::corewire::Status> = <T as KeyValue>::put(
                                &*service,
                                &context,
                                key,
                                value,
                            )
                            .await;
                        context.answer(reply)
                    })
                },
            )
        }
        fn make_2<T: KeyValue>(
            room: ::corewire::generated::Room<'_, T>,
        ) -> ::corewire::generated::Handler {
            room.unary(
                ::corewire::generated::carried::<::corewire::codec::Raw, Bytes>(),
                |
                    service: &::std::rc::Rc<T>,
                    call: &mut ::corewire::generated::IncomingCall<'_, '_>|
                {
                    let payload: Bytes = call.raw_body();
                    call.check_key(|| ::corewire::key_hash::<Bytes>(&payload))?;
                    let service = ::core::clone::Clone::clone(service);
                    ::core::result::Result::Ok(async move {
                        let reply: ::core::result::Result<_, ::corewire::Status> = <T as KeyValue>::say_again(
                                &*service,
                                payload,
                            )
                            .await;
                        reply
                    })
                },
            )
        }
        fn make_3<T: KeyValue>(
            room: ::corewire::generated::Room<'_, T>,
        ) -> ::corewire::generated::Handler {
            room.unary(
                ::corewire::generated::carried::<::corewire::codec::Speedy, u64>(),
                |
                    service: &::std::rc::Rc<T>,
                    call: &mut ::corewire::generated::IncomingCall<'_, '_>|
                {
                    call.arguments().finish()?;
                    let service = ::core::clone::Clone::clone(service);
                    ::core::result::Result::Ok(async move {
                        let reply: ::core::result::Result<_, ::corewire::Status> = <T as KeyValue>::count(
                                &*service,
                            )
                            .await;
                        reply
                    })
                },
            )
        }
        fn make_4<T: KeyValue>(
            room: ::corewire::generated::Room<'_, T>,
        ) -> ::corewire::generated::Handler {
            room.one_way(|
                service: &::std::rc::Rc<T>,
                call: &mut ::corewire::generated::IncomingCall<'_, '_>|
            {
                let mut arguments = call.arguments();
                let key: String = arguments
                    .read(
                        "key",
                        ::corewire::generated::argument::<
                            ::corewire::codec::Speedy,
                            String,
                        >(),
                    )?;
                arguments.finish()?;
                let service = ::core::clone::Clone::clone(service);
                ::core::result::Result::Ok(async move {
                    <T as KeyValue>::touch(&*service, key).await;
                    ::core::result::Result::Ok(())
                })
            })
        }
        fn make_5<T: KeyValue>(
            room: ::corewire::generated::Room<'_, T>,
        ) -> ::corewire::generated::Handler {
            room.streaming(
                ::corewire::generated::carried::<::corewire::codec::Speedy, Vec<u8>>(),
                |
                    service: &::std::rc::Rc<T>,
                    call: &mut ::corewire::generated::IncomingCall<'_, '_>|
                {
                    let mut arguments = call.arguments();
                    let prefix: String = arguments
                        .read(
                            "prefix",
                            ::corewire::generated::argument::<
                                ::corewire::codec::Speedy,
                                String,
                            >(),
                        )?;
                    arguments.finish()?;
                    let service = ::core::clone::Clone::clone(service);
                    ::core::result::Result::Ok(async move {
                        let reply: ::core::result::Result<_, ::corewire::Status> = <T as KeyValue>::watch(
                                &*service,
                                prefix,
                            )
                            .await;
                        reply
                    })
                },
            )
        }
        fn make_6<T: KeyValue>(
            room: ::corewire::generated::Room<'_, T>,
        ) -> ::corewire::generated::Handler {
            room.unary(
                ::corewire::generated::carried::<::corewire::codec::Speedy, u64>(),
                |
                    service: &::std::rc::Rc<T>,
                    call: &mut ::corewire::generated::IncomingCall<'_, '_>|
                {
                    let mut arguments = call.arguments();
                    let size: u64 = arguments
                        .read(
                            "size",
                            ::corewire::generated::argument::<
                                ::corewire::codec::Speedy,
                                u64,
                            >(),
                        )?;
                    let name: String = arguments
                        .read(
                            "name",
                            ::corewire::generated::argument::<
                                ::corewire::codec::Speedy,
                                String,
                            >(),
                        )?;
                    arguments.finish()?;
                    call.check_key(|| ::corewire::key_hash::<String>(&name))?;
                    let parts: Streaming<Bytes> = call
                        .stream(
                            ::corewire::generated::carried::<
                                ::corewire::codec::Raw,
                                Bytes,
                            >(),
                        );
                    let service = ::core::clone::Clone::clone(service);
                    ::core::result::Result::Ok(async move {
                        let reply: ::core::result::Result<_, ::corewire::Status> = <T as KeyValue>::load(
                                &*service,
                                size,
                                name,
                                parts,
                            )
                            .await;
                        reply
                    })
                },
            )
        }
        fn make_7<T: KeyValue>(
            room: ::corewire::generated::Room<'_, T>,
        ) -> ::corewire::generated::Handler {
            room.streaming(
                ::corewire::generated::carried::<::corewire::codec::Raw, Bytes>(),
                |
                    service: &::std::rc::Rc<T>,
                    call: &mut ::corewire::generated::IncomingCall<'_, '_>|
                {
                    call.arguments().finish()?;
                    let edits: Streaming<u64> = call
                        .stream(
                            ::corewire::generated::carried::<
                                ::corewire::codec::Speedy,
                                u64,
                            >(),
                        );
                    let service = ::core::clone::Clone::clone(service);
                    ::core::result::Result::Ok(async move {
                        let reply: ::core::result::Result<_, ::corewire::Status> = <T as KeyValue>::sync(
                                &*service,
                                edits,
                            )
                            .await;
                        reply
                    })
                },
            )
        }
        fn key_0(
            arguments: ::corewire::generated::Arguments<'_>,
        ) -> ::core::option::Option<u64> {
            let mut arguments = arguments;
            let key: String = arguments
                .read(
                    "key",
                    ::corewire::generated::argument::<
                        ::corewire::codec::Speedy,
                        String,
                    >(),
                )
                .ok()?;
            ::core::option::Option::Some(::corewire::key_hash::<String>(&key))
        }
        fn key_1(
            arguments: ::corewire::generated::Arguments<'_>,
        ) -> ::core::option::Option<u64> {
            let mut arguments = arguments;
            let key: String = arguments
                .read(
                    "key",
                    ::corewire::generated::argument::<
                        ::corewire::codec::Speedy,
                        String,
                    >(),
                )
                .ok()?;
            ::core::option::Option::Some(::corewire::key_hash::<String>(&key))
        }
        fn key_2(
            arguments: ::corewire::generated::Arguments<'_>,
        ) -> ::core::option::Option<u64> {
            ::core::option::Option::Some(::corewire::key_hash::<[u8]>(arguments.rest()))
        }
        fn key_6(
            arguments: ::corewire::generated::Arguments<'_>,
        ) -> ::core::option::Option<u64> {
            let mut arguments = arguments;
            let _: u64 = arguments
                .read(
                    "size",
                    ::corewire::generated::argument::<::corewire::codec::Speedy, u64>(),
                )
                .ok()?;
            let name: String = arguments
                .read(
                    "name",
                    ::corewire::generated::argument::<
                        ::corewire::codec::Speedy,
                        String,
                    >(),
                )
                .ok()?;
            ::core::option::Option::Some(::corewire::key_hash::<String>(&name))
        }
        methods
            .serve(
                KeyValueClient::DESCRIPTION,
                &self.0,
                &[make_0, make_1, make_2, make_3, make_4, make_5, make_6, make_7],
                &[(0, key_0), (1, key_1), (2, key_2), (6, key_6)],
            );
    }
}
/// Calls the service `kv.KeyValue`; see [`KeyValue`] for what each method does.
///
/// A clone calls over the same channel.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a program may use one side of a service only"
)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct KeyValueClient<C = ::corewire::Channel> {
    caller: ::corewire::generated::Caller<C>,
}
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a program may use one side of a service only"
)]
impl KeyValueClient<()> {
    /// The service as the wire knows it: names, method ids, types and docs.
    pub const DESCRIPTION: &'static ::corewire::ServiceDescription = &::corewire::ServiceDescription {
        name: "kv.KeyValue",
        docs: "Keeps values under keys.",
        methods: &[
            ::corewire::MethodDescription {
                id: ::corewire::MethodId::of("kv.KeyValue", "get"),
                service: "kv.KeyValue",
                name: "get",
                docs: "The value under `key`.",
                kind: ::corewire::CallKind::Unary,
                arguments: &[
                    ::corewire::ArgumentDescription {
                        name: "key",
                        type_name: "String",
                    },
                ],
                key: ::core::option::Option::Some("key"),
                reply: "Option<Vec<u8>>",
                request_codec: ::corewire::CodecId::SPEEDY,
                reply_codec: ::corewire::CodecId::SPEEDY,
            },
            ::corewire::MethodDescription {
                id: ::corewire::MethodId::of("kv.KeyValue", "put"),
                service: "kv.KeyValue",
                name: "put",
                docs: "",
                kind: ::corewire::CallKind::Unary,
                arguments: &[
                    ::corewire::ArgumentDescription {
                        name: "key",
                        type_name: "String",
                    },
                    ::corewire::ArgumentDescription {
                        name: "value",
                        type_name: "Vec<u8>",
                    },
                ],
                key: ::core::option::Option::Some("key"),
                reply: "()",
                request_codec: ::corewire::CodecId::SPEEDY,
                reply_codec: ::corewire::CodecId::SPEEDY,
            },
            ::corewire::MethodDescription {
                id: ::corewire::MethodId::of("kv.KeyValue", "echo"),
                service: "kv.KeyValue",
                name: "echo",
                docs: "",
                kind: ::corewire::CallKind::Unary,
                arguments: &[
                    ::corewire::ArgumentDescription {
                        name: "payload",
                        type_name: "Bytes",
                    },
                ],
                key: ::core::option::Option::Some("payload"),
                reply: "Bytes",
                request_codec: ::corewire::CodecId::RAW,
                reply_codec: ::corewire::CodecId::RAW,
            },
            ::corewire::MethodDescription {
                id: ::corewire::MethodId::of("kv.KeyValue", "count"),
                service: "kv.KeyValue",
                name: "count",
                docs: "",
                kind: ::corewire::CallKind::Unary,
                arguments: &[],
                key: ::core::option::Option::None,
                reply: "u64",
                request_codec: ::corewire::CodecId::SPEEDY,
                reply_codec: ::corewire::CodecId::SPEEDY,
            },
            ::corewire::MethodDescription {
                id: ::corewire::MethodId::of("kv.KeyValue", "touch"),
                service: "kv.KeyValue",
                name: "touch",
                docs: "",
                kind: ::corewire::CallKind::OneWay,
                arguments: &[
                    ::corewire::ArgumentDescription {
                        name: "key",
                        type_name: "String",
                    },
                ],
                key: ::core::option::Option::None,
                reply: "",
                request_codec: ::corewire::CodecId::SPEEDY,
                reply_codec: ::corewire::CodecId::RAW,
            },
            ::corewire::MethodDescription {
                id: ::corewire::MethodId::of("kv.KeyValue", "watch"),
                service: "kv.KeyValue",
                name: "watch",
                docs: "",
                kind: ::corewire::CallKind::ServerStream,
                arguments: &[
                    ::corewire::ArgumentDescription {
                        name: "prefix",
                        type_name: "String",
                    },
                ],
                key: ::core::option::Option::None,
                reply: "Streaming<Vec<u8>>",
                request_codec: ::corewire::CodecId::SPEEDY,
                reply_codec: ::corewire::CodecId::SPEEDY,
            },
            ::corewire::MethodDescription {
                id: ::corewire::MethodId::of("kv.KeyValue", "load"),
                service: "kv.KeyValue",
                name: "load",
                docs: "",
                kind: ::corewire::CallKind::ClientStream,
                arguments: &[
                    ::corewire::ArgumentDescription {
                        name: "size",
                        type_name: "u64",
                    },
                    ::corewire::ArgumentDescription {
                        name: "name",
                        type_name: "String",
                    },
                    ::corewire::ArgumentDescription {
                        name: "parts",
                        type_name: "Streaming<Bytes>",
                    },
                ],
                key: ::core::option::Option::Some("name"),
                reply: "u64",
                request_codec: ::corewire::CodecId::SPEEDY,
                reply_codec: ::corewire::CodecId::SPEEDY,
            },
            ::corewire::MethodDescription {
                id: ::corewire::MethodId::of("kv.KeyValue", "sync"),
                service: "kv.KeyValue",
                name: "sync",
                docs: "",
                kind: ::corewire::CallKind::Bidirectional,
                arguments: &[
                    ::corewire::ArgumentDescription {
                        name: "edits",
                        type_name: "Streaming<u64>",
                    },
                ],
                key: ::core::option::Option::None,
                reply: "Streaming<Bytes>",
                request_codec: ::corewire::CodecId::SPEEDY,
                reply_codec: ::corewire::CodecId::RAW,
            },
        ],
    };
}
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a program may use one side of a service only"
)]
impl KeyValueClient<::corewire::Channel> {
    /// Connects to `address` from a shard and calls over the new channel.
    ///
    /// # Errors
    ///
    /// The address is invalid, or nobody there speaks the protocol.
    pub async fn connect(
        address: impl ::corewire::IntoAddress,
    ) -> ::core::result::Result<Self, ::corewire::ConnectError> {
        match ::corewire::Channel::connect(address).await {
            ::core::result::Result::Ok(channel) => {
                ::core::result::Result::Ok(Self::new(channel))
            }
            ::core::result::Result::Err(error) => ::core::result::Result::Err(error),
        }
    }
}
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a program may use one side of a service only"
)]
impl<C: ::corewire::Transport> KeyValueClient<C> {
    /// Calls over a channel of any kind; many clients may share one. Each call has a timeout of 10 s until
    /// [`with_timeout`](Self::with_timeout) says otherwise; calls that stream have none.
    #[must_use]
    pub fn new(channel: C) -> Self {
        Self {
            caller: ::corewire::generated::Caller::new(channel),
        }
    }
    /// A client over the same channel whose calls may take `timeout` from their start to their reply, those that
    /// stream as well, instead of the default of 10 s.
    #[must_use]
    pub fn with_timeout(&self, timeout: ::core::time::Duration) -> Self
    where
        C: ::core::clone::Clone,
    {
        Self {
            caller: self.caller.with_timeout(timeout),
        }
    }
    /// A client over the same channel whose calls wait for as long as their connection lives.
    #[must_use]
    pub fn without_timeout(&self) -> Self
    where
        C: ::core::clone::Clone,
    {
        Self {
            caller: self.caller.without_timeout(),
        }
    }
    /// A client over the same channel whose calls say more: metadata, an attachment, a priority, a trace, a
    /// timeout. What `options` leave open stays as it is here.
    #[must_use]
    pub fn with(&self, options: ::corewire::CallOptions) -> Self
    where
        C: ::core::clone::Clone,
    {
        Self {
            caller: self.caller.with(options),
        }
    }
    /// A client over the same channel for calls on behalf of a handler's own caller: they inherit what is left
    /// of its time, its priority, and its trace with a new span.
    #[must_use]
    pub fn in_context(&self, context: &::corewire::Context) -> Self
    where
        C: ::core::clone::Clone,
    {
        Self {
            caller: self.caller.in_context(context),
        }
    }
    /// The channel that this client calls over.
    #[must_use]
    pub fn channel(&self) -> &C {
        self.caller.channel()
    }
    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// A [`CallError`](::corewire::CallError) says what went wrong and whether the call may have run.
    pub fn get(
        &self,
        key: String,
    ) -> ::corewire::Call<
        impl ::corewire::Pending + use<C>,
        ::corewire::codec::Speedy,
        Option<Vec<u8>>,
    > {
        let _ = ::corewire::generated::carried::<
            ::corewire::codec::Speedy,
            Option<Vec<u8>>,
        >();
        self.caller
            .keyed(::corewire::key_hash::<String>(&key))
            .unary(
                &KeyValueClient::DESCRIPTION.methods[0],
                ::corewire::generated::Values::of(
                        &KeyValueClient::DESCRIPTION.methods[0],
                    )
                    .and::<
                        0,
                        _,
                        _,
                    >(
                        key,
                        ::corewire::generated::argument::<
                            ::corewire::codec::Speedy,
                            String,
                        >(),
                    )
                    .writer(),
            )
    }
    /// Calls `put` of `kv.KeyValue`.
    ///
    /// # Errors
    ///
    /// A [`CallError`](::corewire::CallError) says what went wrong and whether the call may have run.
    pub fn put(
        &self,
        key: String,
        value: Vec<u8>,
    ) -> ::corewire::Call<
        impl ::corewire::Pending + use<C>,
        ::corewire::codec::Speedy,
        (),
    > {
        let _ = ::corewire::generated::carried::<::corewire::codec::Speedy, ()>();
        self.caller
            .keyed(::corewire::key_hash::<String>(&key))
            .unary(
                &KeyValueClient::DESCRIPTION.methods[1],
                ::corewire::generated::Values::of(
                        &KeyValueClient::DESCRIPTION.methods[1],
                    )
                    .and::<
                        0,
                        _,
                        _,
                    >(
                        key,
                        ::corewire::generated::argument::<
                            ::corewire::codec::Speedy,
                            String,
                        >(),
                    )
                    .and::<
                        1,
                        _,
                        _,
                    >(
                        value,
                        ::corewire::generated::argument::<
                            ::corewire::codec::Speedy,
                            Vec<u8>,
                        >(),
                    )
                    .writer(),
            )
    }
    /// Calls `echo` of `kv.KeyValue`.
    ///
    /// # Errors
    ///
    /// A [`CallError`](::corewire::CallError) says what went wrong and whether the call may have run.
    pub fn say_again(
        &self,
        payload: Bytes,
    ) -> ::corewire::Call<
        impl ::corewire::Pending + use<C>,
        ::corewire::codec::Raw,
        Bytes,
    > {
        let _ = ::corewire::generated::carried::<::corewire::codec::Raw, Bytes>();
        self.caller
            .keyed(::corewire::key_hash::<Bytes>(&payload))
            .unary(
                &KeyValueClient::DESCRIPTION.methods[2],
                ::corewire::generated::raw_value(payload),
            )
    }
    /// Calls `count` of `kv.KeyValue`.
    ///
    /// # Errors
    ///
    /// A [`CallError`](::corewire::CallError) says what went wrong and whether the call may have run.
    pub fn count(
        &self,
    ) -> ::corewire::Call<
        impl ::corewire::Pending + use<C>,
        ::corewire::codec::Speedy,
        u64,
    > {
        let _ = ::corewire::generated::carried::<::corewire::codec::Speedy, u64>();
        self.caller
            .call()
            .unary(
                &KeyValueClient::DESCRIPTION.methods[3],
                ::corewire::generated::no_values(),
            )
    }
    /// Calls `touch` of `kv.KeyValue`.
    ///
    /// # Errors
    ///
    /// A [`CallError`](::corewire::CallError) says what went wrong and whether the call may have run.
    pub fn touch(
        &self,
        key: String,
    ) -> ::corewire::Call<
        impl ::corewire::Pending + use<C>,
        ::corewire::codec::NoReply,
        (),
    > {
        self.caller
            .call()
            .one_way(
                &KeyValueClient::DESCRIPTION.methods[4],
                ::corewire::generated::Values::of(
                        &KeyValueClient::DESCRIPTION.methods[4],
                    )
                    .and::<
                        0,
                        _,
                        _,
                    >(
                        key,
                        ::corewire::generated::argument::<
                            ::corewire::codec::Speedy,
                            String,
                        >(),
                    )
                    .writer(),
            )
    }
    /// Calls `watch` of `kv.KeyValue`.
    ///
    /// # Errors
    ///
    /// A [`CallError`](::corewire::CallError) says what went wrong and whether the call may have run.
    pub fn watch(
        &self,
        prefix: String,
    ) -> ::corewire::StreamingCall<
        C,
        impl ::corewire::streaming::BeginCall<C> + use<C>,
        ::corewire::streaming::ReplyStream<::corewire::codec::Speedy, Vec<u8>>,
    >
    where
        C: ::corewire::StreamTransport,
    {
        let _ = ::corewire::generated::carried::<::corewire::codec::Speedy, Vec<u8>>();
        self.caller
            .call()
            .server_stream::<
                ::corewire::codec::Speedy,
                _,
                _,
            >(
                &KeyValueClient::DESCRIPTION.methods[5],
                ::corewire::generated::Values::of(
                        &KeyValueClient::DESCRIPTION.methods[5],
                    )
                    .and::<
                        0,
                        _,
                        _,
                    >(
                        prefix,
                        ::corewire::generated::argument::<
                            ::corewire::codec::Speedy,
                            String,
                        >(),
                    )
                    .writer(),
            )
    }
    /// Calls `load` of `kv.KeyValue`.
    ///
    /// # Errors
    ///
    /// A [`CallError`](::corewire::CallError) says what went wrong and whether the call may have run.
    pub fn load(
        &self,
        size: u64,
        name: String,
        parts: <C as ::corewire::StreamTransport>::Streaming<Bytes>,
    ) -> ::corewire::StreamingCall<
        C,
        impl ::corewire::streaming::BeginCall<C> + use<C>,
        ::corewire::streaming::OneReply<::corewire::codec::Speedy, u64>,
    >
    where
        C: ::corewire::StreamTransport,
    {
        let _ = ::corewire::generated::carried::<::corewire::codec::Speedy, u64>();
        self.caller
            .keyed(::corewire::key_hash::<String>(&name))
            .client_stream::<
                _,
                _,
                ::corewire::codec::Speedy,
                _,
                _,
            >(
                ::corewire::generated::carried::<::corewire::codec::Raw, Bytes>(),
                &KeyValueClient::DESCRIPTION.methods[6],
                parts,
                ::corewire::generated::Values::of(
                        &KeyValueClient::DESCRIPTION.methods[6],
                    )
                    .and::<
                        0,
                        _,
                        _,
                    >(
                        size,
                        ::corewire::generated::argument::<
                            ::corewire::codec::Speedy,
                            u64,
                        >(),
                    )
                    .and::<
                        1,
                        _,
                        _,
                    >(
                        name,
                        ::corewire::generated::argument::<
                            ::corewire::codec::Speedy,
                            String,
                        >(),
                    )
                    .writer(),
            )
    }
    /// Calls `sync` of `kv.KeyValue`.
    ///
    /// # Errors
    ///
    /// A [`CallError`](::corewire::CallError) says what went wrong and whether the call may have run.
    pub fn sync(
        &self,
        edits: <C as ::corewire::StreamTransport>::Streaming<u64>,
    ) -> ::corewire::StreamingCall<
        C,
        impl ::corewire::streaming::BeginCall<C> + use<C>,
        ::corewire::streaming::ReplyStream<::corewire::codec::Raw, Bytes>,
    >
    where
        C: ::corewire::StreamTransport,
    {
        let _ = ::corewire::generated::carried::<::corewire::codec::Raw, Bytes>();
        self.caller
            .call()
            .bidirectional::<
                _,
                _,
                ::corewire::codec::Raw,
                _,
                _,
            >(
                ::corewire::generated::carried::<::corewire::codec::Speedy, u64>(),
                &KeyValueClient::DESCRIPTION.methods[7],
                edits,
                ::corewire::generated::no_values(),
            )
    }
}
