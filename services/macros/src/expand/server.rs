//! `…Server<T>`: decodes calls and hands them to the author's implementation.

use super::parts::{Expansion, argument as codec_of, carried, key_hash, site_of};
use crate::check::{Argument, Codec, Method};
use crate::names;
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote_spanned;

pub(super) fn tokens(expansion: &Expansion<'_>) -> TokenStream {
    let mut tokens = definition(expansion);
    tokens.extend(service_impl(expansion));
    tokens
}

/// The type, its constructors, `Clone` and `Debug`; each requires of `T` only what it uses.
fn definition(expansion: &Expansion<'_>) -> TokenStream {
    let item = &expansion.declaration.item;
    let (visibility, service) = (&item.vis, &item.ident);
    let (server, parameter) = (&expansion.server, &expansion.parameter);
    let conditions = &expansion.conditions;
    let server_text = server.to_string();
    let held = held(expansion);
    let (constructor, handle) = match expansion.declaration.shares_service() {
        None => ("from_rc", quote_spanned!(Span::mixed_site()=> service)),
        Some(_) => ("from_arc", quote_spanned!(Span::mixed_site()=> ::std::rc::Rc::new(service))),
    };
    let constructor = Ident::new(constructor, Span::mixed_site());
    let (made, pointer, others) = match expansion.declaration.shares_service() {
        None => {
            let pointer = quote_spanned!(Span::mixed_site()=> ::std::rc::Rc);
            (quote_spanned!(Span::mixed_site()=> service), pointer, "parts of the shard")
        }
        Some(_) => {
            let pointer = quote_spanned!(Span::mixed_site()=> ::std::sync::Arc);
            let made = quote_spanned!(Span::mixed_site()=> #pointer::new(service));
            (made, pointer, "threads or shards")
        }
    };
    let shared_docs = format!(" Serves with an implementation that other {others} hold, too.");
    let docs = format!(
        " Serves the service `{}` with an implementation of [`{service}`].",
        expansion.service.wire_name
    );
    quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #[doc = #docs]
        #[doc = ""]
        #[doc = " A clone serves with the same implementation."]
        #[allow(dead_code, unreachable_pub, reason = "a program may use one side of a service only")]
        #visibility struct #server<#parameter>(::std::rc::Rc<#held>);

        #(#conditions)*
        #[allow(dead_code, unreachable_pub, reason = "a program may use one side of a service only")]
        impl<#parameter: #service> #server<#parameter> {
            /// Serves with `service`.
            #[must_use]
            #visibility fn new(service: #parameter) -> Self {
                Self(::std::rc::Rc::new(#made))
            }

            #[doc = #shared_docs]
            #[must_use]
            #visibility fn #constructor(service: #pointer<#parameter>) -> Self {
                Self(#handle)
            }
        }

        #(#conditions)*
        impl<#parameter> ::core::clone::Clone for #server<#parameter> {
            fn clone(&self) -> Self {
                Self(::core::clone::Clone::clone(&self.0))
            }
        }

        #(#conditions)*
        impl<#parameter> ::core::fmt::Debug for #server<#parameter> {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                formatter.debug_struct(#server_text).finish_non_exhaustive()
            }
        }
    }
}

/// What calls share on their shard: the implementation, or, if threads beside the shards need it, a handle that may go
/// there.
fn held(expansion: &Expansion<'_>) -> TokenStream {
    let parameter = &expansion.parameter;
    match expansion.declaration.shares_service() {
        None => quote_spanned!(Span::mixed_site()=> #parameter),
        Some(_) => quote_spanned!(Span::mixed_site()=> ::std::sync::Arc<#parameter>),
    }
}

fn service_impl(expansion: &Expansion<'_>) -> TokenStream {
    let service = &expansion.declaration.item.ident;
    let (server, client) = (&expansion.server, &expansion.client);
    let parameter = &expansion.parameter;
    let conditions = &expansion.conditions;
    let methods = expansion.service.methods.iter().enumerate();
    let (names, functions): (Vec<_>, Vec<_>) =
        methods.map(|(index, method)| make_slot(expansion, index, method)).unzip();
    let keyed = expansion.service.methods.iter().enumerate().filter(|(_, it)| it.key().is_some());
    let (keys, key_functions): (Vec<_>, Vec<_>) =
        keyed.map(|(index, method)| key_of(index, method)).unzip();
    let classify = classify(expansion);
    quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #[allow(deprecated, unused_variables, reason = "old methods are still served; a service may have none")]
        impl<#parameter: #service> ::corewire::Service for #server<#parameter> {
            fn description(&self) -> &'static ::corewire::ServiceDescription {
                #client::DESCRIPTION
            }

            fn register(self, methods: &mut ::corewire::generated::Methods) {
                #(#functions)*
                #(#key_functions)*
                methods.serve(#client::DESCRIPTION, &self.0, &[#(#names),*], &[#(#keys),*]);
                #classify
            }
        }
    }
}

/// Says the classes of methods, if any has one.
fn classify(expansion: &Expansion<'_>) -> Option<TokenStream> {
    let client = &expansion.client;
    let classes: Vec<_> = expansion
        .service
        .methods
        .iter()
        .enumerate()
        .filter_map(|(index, method)| {
            let given =
                method.declaration.class.as_ref().or(expansion.declaration.class.as_ref())?;
            let class = match given.value().as_str() {
                "latency" => "Latency",
                "batch" => "Batch",
                _ => "Normal",
            };
            let (number, class) =
                (Literal::usize_unsuffixed(index), Ident::new(class, Span::mixed_site()));
            Some(quote_spanned! {Span::mixed_site()=>
                (#number, ::corewire::ServiceClass::#class)
            })
        })
        .collect();
    (!classes.is_empty()).then(|| {
        quote_spanned!(Span::mixed_site()=> methods.classify(#client::DESCRIPTION, &[#(#classes),*]);)
    })
}

/// The function that makes room for the calls of one method, and its name: such a call decodes the arguments at once, then
/// runs the author's method as a future. Each is a function of its own, so that rustc never has to look at all of them
/// at once.
fn make_slot(expansion: &Expansion<'_>, index: usize, method: &Method<'_>) -> (Ident, TokenStream) {
    let make = Ident::new(&format!("make_{index}"), Span::mixed_site());
    let service = &expansion.declaration.item.ident;
    let parameter = &expansion.parameter;
    let name = &method.declaration.item.sig.ident;
    let decode = decode(method);
    let check_key = method.key().map(|key| {
        let hash = key_hash(key);
        quote_spanned!(Span::mixed_site()=> call.check_key(|| #hash)?;)
    });
    let held = held(expansion);
    let take_stream = method.stream().map(|(argument, item)| {
        let (ident, ty) = (argument.ident, argument.ty);
        let codec = carried(Codec::of(item), item);
        quote_spanned!(site_of(item)=> let #ident: #ty = call.stream(#codec);)
    });
    let arguments = method.arguments.iter().map(|it| it.ident);
    let take_context = method.context.map(
        |_| quote_spanned!(Span::mixed_site()=> let context: ::corewire::Context = call.context();),
    );
    let pass_context = method.context.map(|ty| quote_spanned!(site_of(ty)=> &context,));
    let of_self = match (method.is_blocking(), expansion.declaration.shares_service()) {
        (true, _) if method.declaration.shares_service().is_none() => None,
        (false, Some(_)) => Some(quote_spanned!(Span::mixed_site()=> &**service,)),
        _ => Some(quote_spanned!(Span::mixed_site()=> &*service,)),
    };
    let awaited = (!method.is_blocking()).then(|| quote_spanned!(Span::mixed_site()=> .await));
    let run = quote_spanned! {Span::mixed_site()=>
        <#parameter as #service>::#name(#of_self #pass_context #(#arguments),*) #awaited
    };
    // What calls `Room` stands at the type that is sent, where rustc reports one without an encoding.
    let (site, kind, codec, reply) = match &method.returned {
        None => (
            Span::mixed_site(),
            Ident::new(
                if method.is_blocking() { "blocking_one_way" } else { "one_way" },
                Span::mixed_site(),
            ),
            None,
            quote_spanned!(Span::mixed_site()=> #run; ::core::result::Result::Ok(())),
        ),
        Some(returned) => {
            let sent = returned.item.unwrap_or(returned.reply);
            let (codec, site) = (carried(method.reply_codec(), sent), site_of(sent));
            let kind = match returned.item {
                None if method.is_blocking() => "blocking",
                None => "unary",
                Some(_) => "streaming",
            };
            let kind = Ident::new(kind, site);
            // States the error's type, so that another type of that name is reported where the author wrote it.
            let reply = quote_spanned! {site_of(returned.status)=>
                let reply: ::core::result::Result<_, ::corewire::Status> = #run;
            };
            // A handler with a context may have added to its reply, or to the opening of its stream.
            let answer = match method.context {
                Some(_) => quote_spanned!(Span::mixed_site()=> context.answer(reply)),
                None => quote_spanned!(Span::mixed_site()=> reply),
            };
            let reply = quote_spanned!(Span::mixed_site()=> #reply #answer);
            (site, kind, Some(quote_spanned!(site=> #codec,)), reply)
        }
    };
    let (take_service, handler) = match (method.is_blocking(), method.declaration.shares_service())
    {
        (false, _) => (
            quote_spanned!(Span::mixed_site()=> let service = ::core::clone::Clone::clone(service);),
            quote_spanned!(Span::mixed_site()=> async move { #reply }),
        ),
        (true, Some(_)) => (
            quote_spanned!(Span::mixed_site()=> let service = ::std::sync::Arc::clone(&**service);),
            quote_spanned!(Span::mixed_site()=> move || { #reply }),
        ),
        (true, None) => {
            (TokenStream::new(), quote_spanned!(Span::mixed_site()=> move || { #reply }))
        }
    };
    // The closure captures nothing, so that all methods share the code that holds the service.
    let begin = quote_spanned! {Span::mixed_site()=>
        |service: &::std::rc::Rc<#held>, call: &mut ::corewire::generated::IncomingCall<'_, '_>| {
            #decode
            #check_key
            #take_stream
            #take_context
            #take_service
            ::core::result::Result::Ok(#handler)
        }
    };
    let call = quote_spanned!(site=> room.#kind(#codec #begin));
    let function = quote_spanned! {Span::mixed_site()=>
        fn #make<#parameter: #service>(
            room: ::corewire::generated::Room<'_, #held>,
        ) -> ::corewire::generated::Handler {
            #call
        }
    };
    (make, function)
}

/// The function that reads the key's hash from a request's body, as a pair with the method's number. It reads nothing
/// behind the key.
fn key_of(index: usize, method: &Method<'_>) -> (TokenStream, TokenStream) {
    let name = Ident::new(&format!("key_{index}"), Span::mixed_site());
    let number = Literal::usize_unsuffixed(index);
    let pair = quote_spanned!(Span::mixed_site()=> (#number, #name));
    let body = if method.request_codec == Codec::Raw {
        quote_spanned! {Span::mixed_site()=>
            ::core::option::Option::Some(::corewire::key_hash::<[u8]>(arguments.rest()))
        }
    } else {
        let key = method.key().map(|it| it.ident);
        let before = method.values().take_while(|it| Some(it.ident) != key).map(|it| {
            let (ty, read) = (it.ty, read(it));
            quote_spanned!(site_of(ty)=> let _: #ty = #read.ok()?;)
        });
        let found = method.key().map(|it| {
            let (ident, ty) = (it.ident, it.ty);
            let (read, hash) = (read(it), key_hash(it));
            quote_spanned! {site_of(ty)=>
                let #ident: #ty = #read.ok()?;
                ::core::option::Option::Some(#hash)
            }
        });
        quote_spanned! {Span::mixed_site()=>
            let mut arguments = arguments;
            #(#before)*
            #found
        }
    };
    let function = quote_spanned! {Span::mixed_site()=>
        fn #name(arguments: ::corewire::generated::Arguments<'_>) -> ::core::option::Option<u64> {
            #body
        }
    };
    (pair, function)
}

/// The expression that reads the next argument.
fn read(argument: &Argument<'_>) -> TokenStream {
    let name = names::plain(argument.ident);
    let codec = codec_of(argument.ty);
    quote_spanned!(site_of(argument.ty)=> arguments.read(#name, #codec))
}

/// Binds every argument that travels to its own name.
fn decode(method: &Method<'_>) -> TokenStream {
    if let (Codec::Raw, [body]) = (method.request_codec, &method.values().collect::<Vec<_>>()[..]) {
        let (ident, ty) = (body.ident, body.ty);
        return match method.is_blocking() {
            false => quote_spanned!(site_of(ty)=> let #ident: #ty = call.raw_body();),
            true => quote_spanned!(site_of(ty)=> let #ident: #ty = call.body_to_keep();),
        };
    }
    if method.values().next().is_none() {
        return quote_spanned!(Span::mixed_site()=> call.arguments().finish()?;);
    }
    let reads = method.values().map(|it| {
        let (ident, ty, read) = (it.ident, it.ty, read(it));
        quote_spanned!(site_of(ty)=> let #ident: #ty = #read?;)
    });
    quote_spanned! {Span::mixed_site()=>
        let mut arguments = call.arguments();
        #(#reads)*
        arguments.finish()?;
    }
}
