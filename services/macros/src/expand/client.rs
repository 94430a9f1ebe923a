//! `…Client`: the same methods for a caller, and the service's description.

use super::parts::{Expansion, argument, carried, codec_type, description, key_hash, site_of};
use crate::check::{Codec, Method};
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::{Attribute, Visibility};

pub(super) fn tokens(expansion: &Expansion<'_>) -> TokenStream {
    let item = &expansion.declaration.item;
    let (visibility, service) = (&item.vis, &item.ident);
    let client = &expansion.client;
    let conditions = &expansion.conditions;
    let description = description(expansion);
    let methods = expansion.service.methods.iter().enumerate();
    let methods = methods.map(|(index, method)| client_method(expansion, index, method));
    let channel = &expansion.channel;
    let docs = format!(
        " Calls the service `{}`; see [`{service}`] for what each method does.",
        expansion.service.wire_name
    );
    let attributes = quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        #[allow(dead_code, unreachable_pub, reason = "a program may use one side of a service only")]
    };
    let default = shard_only(quote_spanned!(Span::mixed_site()=> = ::corewire::Channel));
    let connect = shard_only(connect(visibility, client, &attributes));
    quote_spanned! {Span::mixed_site()=>
        #[doc = #docs]
        #[doc = ""]
        #[doc = " A clone calls over the same channel."]
        #attributes
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #visibility struct #client<#channel #default> {
            caller: ::corewire::generated::Caller<#channel>,
        }

        #attributes
        impl #client<()> {
            /// The service as the wire knows it: names, method ids, types and docs.
            #visibility const DESCRIPTION: &'static ::corewire::ServiceDescription = &#description;
        }

        #connect

        #attributes
        impl<#channel: ::corewire::Transport> #client<#channel> {
            /// Calls over a channel of any kind; many clients may share one. Each call has a timeout of 10 s until
            /// [`with_timeout`](Self::with_timeout) says otherwise; calls that stream have none.
            #[must_use]
            #visibility fn new(channel: #channel) -> Self {
                Self { caller: ::corewire::generated::Caller::new(channel) }
            }

            /// A client over the same channel whose calls may take `timeout` from their start to their reply, those that
            /// stream as well, instead of the default of 10 s.
            #[must_use]
            #visibility fn with_timeout(&self, timeout: ::core::time::Duration) -> Self
            where
                #channel: ::core::clone::Clone,
            {
                Self { caller: self.caller.with_timeout(timeout) }
            }

            /// A client over the same channel whose calls wait for as long as their connection lives.
            #[must_use]
            #visibility fn without_timeout(&self) -> Self
            where
                #channel: ::core::clone::Clone,
            {
                Self { caller: self.caller.without_timeout() }
            }

            /// A client over the same channel whose calls say more: metadata, an attachment, a priority, a trace, a
            /// timeout. What `options` leave open stays as it is here.
            #[must_use]
            #visibility fn with(&self, options: ::corewire::CallOptions) -> Self
            where
                #channel: ::core::clone::Clone,
            {
                Self { caller: self.caller.with(options) }
            }

            /// A client over the same channel for calls on behalf of a handler's own caller: they inherit what is left
            /// of its time, its priority, and its trace with a new span.
            #[must_use]
            #visibility fn in_context(&self, context: &::corewire::Context) -> Self
            where
                #channel: ::core::clone::Clone,
            {
                Self { caller: self.caller.in_context(context) }
            }

            /// The channel that this client calls over.
            #[must_use]
            #visibility fn channel(&self) -> &#channel {
                self.caller.channel()
            }

            #(#methods)*
        }
    }
}

/// Code that is written only for programs that have shards.
fn shard_only(tokens: TokenStream) -> Option<TokenStream> {
    cfg!(feature = "shard").then_some(tokens)
}

/// The function that connects a client on a shard.
fn connect(visibility: &Visibility, client: &Ident, attributes: &TokenStream) -> TokenStream {
    quote_spanned! {Span::mixed_site()=>
        #attributes
        impl #client<::corewire::Channel> {
            /// Connects to `address` from a shard and calls over the new channel.
            ///
            /// # Errors
            ///
            /// The address is invalid, or nobody there speaks the protocol.
            #visibility async fn connect(
                address: impl ::corewire::IntoAddress,
            ) -> ::core::result::Result<Self, ::corewire::ConnectError> {
                match ::corewire::Channel::connect(address).await {
                    ::core::result::Result::Ok(channel) => ::core::result::Result::Ok(Self::new(channel)),
                    ::core::result::Result::Err(error) => ::core::result::Result::Err(error),
                }
            }
        }
    }
}

fn client_method(expansion: &Expansion<'_>, index: usize, method: &Method<'_>) -> TokenStream {
    let index = Literal::usize_unsuffixed(index);
    let visibility = &expansion.declaration.item.vis;
    let (client, channel) = (&expansion.client, &expansion.channel);
    let name = &method.declaration.item.sig.ident;
    let attributes = method.declaration.item.attrs.iter().filter(|it| is_kept(it));
    let docs = error_docs(&expansion.service.wire_name, method);
    let idents = method.arguments.iter().map(|it| it.ident);
    let stream = method.stream().map(|(argument, item)| (argument.ident, item));
    let types = method.arguments.iter().map(|it| match stream {
        // What is sent over a channel is a stream of that channel's.
        Some((ident, item)) if ident == it.ident => quote_spanned! {Span::mixed_site()=>
            <#channel as ::corewire::StreamTransport>::Streaming<#item>
        },
        _ => it.ty.to_token_stream(),
    });
    let description = quote_spanned!(Span::mixed_site()=> &#client::DESCRIPTION.methods[#index]);
    let encode = encode(method, &description);
    // The key is hashed before the arguments move into what writes them.
    let caller = match method.key().map(key_hash) {
        None => quote_spanned!(Span::mixed_site()=> self.caller.call()),
        Some(hash) => quote_spanned!(Span::mixed_site()=> self.caller.keyed(#hash)),
    };
    let signature = quote_spanned! {Span::mixed_site()=>
        #(#attributes)*
        #(#[doc = #docs])*
        #visibility fn #name(&self, #(#idents: #types),*)
    };
    let Some(returned) = &method.returned else {
        return quote_spanned! {Span::mixed_site()=>
            #signature -> ::corewire::Call<
                impl ::corewire::Pending + use<#channel>,
                ::corewire::codec::NoReply,
                (),
            > {
                #caller.one_way(#description, #encode)
            }
        };
    };
    let reply = returned.reply;
    let received = returned.item.unwrap_or(reply);
    let codec = codec_type(method.reply_codec(), received);
    let check = carried(method.reply_codec(), received);
    let check = quote_spanned!(site_of(received)=> let _ = #check;);
    if method.stream().is_none() && returned.item.is_none() {
        return quote_spanned! {Span::mixed_site()=>
            #signature -> ::corewire::Call<impl ::corewire::Pending + use<#channel>, #codec, #reply> {
                #check
                #caller.unary(#description, #encode)
            }
        };
    }
    let call = match (method.stream(), returned.item) {
        (Some((argument, item)), answered) => {
            let ident = argument.ident;
            let sent = carried(Codec::of(item), item);
            let kind = match answered {
                None => quote_spanned!(Span::mixed_site()=> client_stream),
                Some(_) => quote_spanned!(Span::mixed_site()=> bidirectional),
            };
            quote_spanned! {Span::mixed_site()=>
                #kind::<_, _, #codec, _, _>(#sent, #description, #ident, #encode)
            }
        }
        (None, _) => quote_spanned! {Span::mixed_site()=>
            server_stream::<#codec, _, _>(#description, #encode)
        },
    };
    let finish = match returned.item {
        None => quote_spanned!(Span::mixed_site()=> OneReply<#codec, #reply>),
        Some(item) => quote_spanned!(Span::mixed_site()=> ReplyStream<#codec, #item>),
    };
    quote_spanned! {Span::mixed_site()=>
        #signature -> ::corewire::StreamingCall<
            #channel,
            impl ::corewire::streaming::BeginCall<#channel> + use<#channel>,
            ::corewire::streaming::#finish,
        >
        where
            #channel: ::corewire::StreamTransport,
        {
            #check
            #caller.#call
        }
    }
}

/// The expression that writes the arguments into the request's body. It has no closure of the method's own, so that
/// methods which take the same types share the code of a call.
fn encode(method: &Method<'_>, description: &TokenStream) -> TokenStream {
    if let (Codec::Raw, [argument]) =
        (method.request_codec, &method.values().collect::<Vec<_>>()[..])
    {
        let ident = argument.ident;
        return quote_spanned!(Span::mixed_site()=> ::corewire::generated::raw_value(#ident));
    }
    if method.values().next().is_none() {
        return quote_spanned!(Span::mixed_site()=> ::corewire::generated::no_values());
    }
    let numbered = method.arguments.iter().enumerate().filter(|(_, it)| it.item.is_none());
    let values = numbered.map(|(number, it)| {
        let (ident, number) = (it.ident, Literal::usize_unsuffixed(number));
        let codec = argument(it.ty);
        quote_spanned!(site_of(it.ty)=> .and::<#number, _, _>(#ident, #codec))
    });
    quote_spanned! {Span::mixed_site()=>
        ::corewire::generated::Values::of(#description) #(#values)* .writer()
    }
}

/// Docs, deprecation and lint levels mean the same to a caller; any other attribute belongs to the trait only.
fn is_kept(attribute: &Attribute) -> bool {
    ["doc", "deprecated", "allow"].iter().any(|name| attribute.path().is_ident(name))
}

/// The lines that follow the author's docs.
fn error_docs(service: &str, method: &Method<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if method.docs.is_empty() {
        lines.push(format!(" Calls `{}` of `{service}`.", method.wire_name));
    }
    lines.push(String::new());
    if !method.docs.contains("# Errors") {
        lines.push(" # Errors".to_owned());
        lines.push(String::new());
    }
    lines.push(
        " A [`CallError`](::corewire::CallError) says what went wrong and whether the call may have run."
            .to_owned(),
    );
    lines
}
