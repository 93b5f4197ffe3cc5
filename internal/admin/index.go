package admin

import (
	"html/template"
	"net/http"
)

var indexPage = template.Must(template.New("index").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>aggregator</title></head>
<body>
<h1>aggregator {{.Version}}</h1>
<ul>
<li><a href="/readyz">/readyz</a>: does it work, and if not, why?</li>
<li><a href="/healthz">/healthz</a>: is the process alive?</li>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/version">/version</a>: what is running</li>
{{if .Pprof}}<li><a href="/debug/pprof/">/debug/pprof/</a>: profiles of the process, for this machine alone</li>
{{end}}</ul>
</body>
</html>
`))

// index links to what there is.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = indexPage.Execute(w, s.Options) // if it fails, the browser has gone
}
