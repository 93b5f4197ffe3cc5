package admin

import (
	"net"
	"net/http"
	"net/http/pprof" // which also registers itself with http.DefaultServeMux; no listener serves that
)

// profiling lets Go's profiler answer. A client that may ask can make the process slow. Hence it answers only
// this machine, whatever the listener's address is.
func profiling(mux *http.ServeMux) {
	for path, handler := range map[string]http.HandlerFunc{
		"/debug/pprof/":        pprof.Index, // and the profiles of that name
		"/debug/pprof/cmdline": pprof.Cmdline,
		"/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol":  pprof.Symbol,
		"/debug/pprof/trace":   pprof.Trace,
	} {
		mux.HandleFunc("GET "+path, onlyHere(handler))
	}
}

func onlyHere(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil || !net.ParseIP(host).IsLoopback() {
			http.Error(w, "profiles are for this machine alone: ask at 127.0.0.1", http.StatusForbidden)
			return
		}
		handler(w, r)
	}
}
