package access

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// ourNames are the hosts that requests may be for, besides addresses.
func ourNames(addr string, hosts []string) []string {
	var all []string
	if host, _, err := net.SplitHostPort(addr); err == nil {
		hosts = append([]string{host}, hosts...)
	}
	for _, host := range hosts {
		if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
			all = append(all, hostName(host))
		}
	}
	return all
}

// hostName is the name or address in a Host header, or in a setting, in the form in which they are compared.
func hostName(text string) string {
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip.Unmap().WithZone("").String()
	}
	return strings.ToLower(strings.TrimSuffix(text, "."))
}

// ours says whether the request is for us by its Host. Any other name may lead here too, if a foreign site says so
// in its DNS: the browser would then let its pages read what we answer.
func (g *Guard) ours(r *http.Request) bool {
	host := hostName(r.Host)
	var local netip.Addr
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		local = address(addr.String())
	}
	ip, err := netip.ParseAddr(host)
	return slices.Contains(g.hosts, host) || isLoopbackName(host) && local.IsLoopback() || err == nil && ip == local
}

func isLoopbackName(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// address is the address in host:port; the zero one, which is nowhere, if there is none.
func address(text string) netip.Addr {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

func peerOf(r *http.Request) netip.Addr { return address(r.RemoteAddr) }

func (g *Guard) isProxy(peer netip.Addr) bool {
	return slices.ContainsFunc(g.Proxies, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// isHere says whether a program on this machine asks for itself, as far as can be told: no proxy is in between
// that says so. HTTP/1.0 is what some proxies speak that do not say so.
func (g *Guard) isHere(r *http.Request, peer netip.Addr) bool {
	if !peer.IsLoopback() || g.isProxy(peer) || !isLoopbackName(hostName(r.Host)) || !r.ProtoAtLeast(1, 1) {
		return false
	}
	for name := range r.Header {
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") ||
			strings.EqualFold(name, g.Header) {
			return false
		}
	}
	return true
}

// secretNames are parameters in which secrets are sent by mistake.
var secretNames = []string{
	"token", "access_token", "id_token", "api_key", "api-key", "apikey", "auth", "authorization", "key", "password",
	"passwd", "secret",
}

// checkURL refuses a URL with a secret in it: URLs get into logs and histories.
func (g *Guard) checkURL(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return refuse(http.StatusBadRequest, "the query of the URL is malformed")
	}
	inURL := u.User != nil
	for name, values := range query {
		inURL = inURL || slices.Contains(secretNames, strings.ToLower(name)) ||
			slices.ContainsFunc(append(values, name), g.isToken)
	}
	if inURL {
		return refuse(http.StatusBadRequest, "there is a secret in the URL, or what looks like one: send it in the header "+
			"Authorization, and replace it, because URLs are logged")
	}
	return nil
}

func (g *Guard) isToken(text string) bool {
	if g.tokens == nil || len(text) < minToken {
		return false
	}
	_, found := g.tokens.now().byToken(strings.ReplaceAll(text, " ", "+")) // what + means in a query
	return found
}
