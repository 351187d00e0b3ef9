// Written by `make web`, for include!.
[
    Asset { path: "/", kind: "text/html; charset=utf-8", gzip: include_bytes!("index.html.gz") },
    Asset { path: "/assets/page-913a4d598184.js", kind: "text/javascript; charset=utf-8", gzip: include_bytes!("page.js.gz") },
    Asset { path: "/assets/page-4f921e9a585b.css", kind: "text/css; charset=utf-8", gzip: include_bytes!("page.css.gz") },
    Asset { path: "/licences", kind: "text/plain; charset=utf-8", gzip: include_bytes!("licences.txt.gz") },
]
