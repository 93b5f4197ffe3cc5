package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"unicode"

	"aggregator/internal/access"
)

// httpConflicts are the settings of http that are wrong only together. The files are not read: most commands need
// none of them, and may not be allowed to.
func (c Config) httpConflicts() []error {
	var all []error
	h := c.HTTP
	switch {
	case (h.TLSCertFile == "") == (h.TLSKeyFile == ""):
	case h.TLSKeyFile == "":
		all = append(all, invalidf("http.tls_cert_file = %q: http.tls_key_file is missing", h.TLSCertFile))
	default:
		all = append(all, invalidf("http.tls_key_file = %q: http.tls_cert_file is missing", h.TLSKeyFile))
	}
	switch {
	case h.TrustedHeader != "" && len(h.TrustedProxies) == 0:
		all = append(all, invalidf("http.trusted_header = %q: http.trusted_proxies is missing", h.TrustedHeader))
	case h.TrustedHeader == "" && len(h.TrustedProxies) > 0:
		all = append(all, invalidf("http.trusted_proxies = %q: http.trusted_header is missing", networks{&h.TrustedProxies}))
	case h.TrustedHeader == "" && len(h.Operators) > 0:
		all = append(all, invalidf(
			"http.operators = %q: only with http.trusted_header; http.users_file has operators of its own",
			strings.Join(h.Operators, ",")))
	}
	return all
}

// Access returns the guard of the operator page, as the settings and their files say. At the paths of preferences
// every viewer may use POST. Errors have ErrInvalid, and name the setting and the file. log may be nil.
func (c Config) Access(log *slog.Logger, preferences ...string) (*access.Guard, error) {
	h := c.HTTP
	guard, err := access.New(access.Options{
		UsersFile: h.UsersFile, TokensFile: h.TokensFile,
		Header: h.TrustedHeader, Proxies: h.TrustedProxies, Operators: h.Operators,
		Addr: h.Addr, Hosts: h.Hosts, Preferences: preferences, Log: log,
	})
	if err != nil {
		return nil, invalidf("%w", err)
	}
	return guard, nil
}

// HTTPCertificate reads the certificate of http.addr and its key; nil if it is without TLS. Errors have ErrInvalid,
// and name the setting and the file.
func (c Config) HTTPCertificate() (*tls.Certificate, error) {
	if c.HTTP.TLSCertFile == "" {
		return nil, nil
	}
	pair, err := readPair("http", c.HTTP.TLSCertFile, c.HTTP.TLSKeyFile)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// HTTPClient returns how to ask http.addr over TLS; nil if it is without TLS. Only the server's own certificate, of
// http.tls_cert_file, is trusted, whatever its name, authority and time. The key is not read.
func (c Config) HTTPClient() (*tls.Config, error) {
	if c.HTTP.TLSCertFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.HTTP.TLSCertFile)
	if err != nil {
		return nil, invalidf("http.tls_cert_file = %q: %w", c.HTTP.TLSCertFile, fileReason(err))
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, invalidf("http.tls_cert_file = %q: there is no certificate in PEM form in it", c.HTTP.TLSCertFile)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // compared instead
		VerifyPeerCertificate: func(shown [][]byte, _ [][]*x509.Certificate) error {
			if len(shown) == 0 || !bytes.Equal(shown[0], block.Bytes) {
				return errors.New("its certificate is not that of http.tls_cert_file")
			}
			return nil
		},
	}, nil
}

// list is texts that are separated by commas.
type list struct {
	p  *[]string
	of item
}

// item is what is in a list.
type item struct {
	plural string
	valid  func(string) bool
}

var (
	aHost = item{"names or addresses of hosts, without ports", func(text string) bool {
		_, err := netip.ParseAddr(text)
		return err == nil || hostPattern.MatchString(text) && !strings.Contains(text, ":")
	}}
	aUser = item{"names of users", func(text string) bool {
		return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
	}}
)

func (v list) String() string  { return strings.Join(*v.p, ",") }
func (v list) Allowed() string { return v.of.plural + ", separated by commas" }

func (v list) Set(text string) error {
	all, err := items(text)
	if err != nil {
		return err
	}
	for _, one := range all {
		if !v.of.valid(one) {
			return fmt.Errorf("%q: want %s", one, v.Allowed())
		}
	}
	*v.p = all
	return nil
}

// items are the parts of a text between commas; none of an empty one.
func items(text string) ([]string, error) {
	var all []string
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		one = strings.TrimSpace(one)
		switch {
		case one == "":
			return nil, errors.New("there is nothing between two commas, or at an end")
		case slices.Contains(all, one):
			return nil, fmt.Errorf("%q is there twice", one)
		}
		all = append(all, one)
	}
	return all, nil
}

// networks are addresses and networks, separated by commas.
type networks struct{ p *[]netip.Prefix }

func (v networks) Allowed() string {
	return "addresses, or networks as in 10.2.0.0/24, separated by commas"
}

func (v networks) String() string {
	var all []string
	for _, one := range *v.p {
		if one.IsSingleIP() {
			all = append(all, one.Addr().String())
		} else {
			all = append(all, one.String())
		}
	}
	return strings.Join(all, ",")
}

func (v networks) Set(text string) error {
	texts, err := items(text)
	if err != nil {
		return err
	}
	var all []netip.Prefix
	for _, one := range texts {
		network, err := netip.ParsePrefix(one)
		if ip, ipErr := netip.ParseAddr(one); ipErr == nil && ip.Zone() == "" {
			network, err = ip.Unmap().Prefix(ip.Unmap().BitLen())
		}
		switch {
		case err != nil || network.Addr().Is4In6():
			return fmt.Errorf("%q: want %s", one, v.Allowed())
		case network.Bits() == 0:
			return fmt.Errorf("%q: that is every address, and each could then be any user", one)
		}
		all = append(all, network.Masked())
	}
	*v.p = all
	return nil
}

// headerName is the name of an HTTP header; empty for none.
type headerName struct{ p *string }

func (v headerName) String() string  { return *v.p }
func (v headerName) Allowed() string { return "the name of an HTTP header" }

func (v headerName) Set(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool {
		return r != '-' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}) {
		return fmt.Errorf("want %s: letters, digits and -", v.Allowed())
	}
	*v.p = textproto.CanonicalMIMEHeaderKey(text)
	return nil
}
