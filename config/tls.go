package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
)

// RedisTLS returns how to speak TLS with Redis, or nil if the URL is not rediss://. It
// reads the files that the settings name. Errors have ErrInvalid and name the setting and
// the file. What is left to the client, such as the server's name by the URL, is not set.
func (c Config) RedisTLS() (*tls.Config, error) {
	r := c.Redis
	if !strings.HasPrefix(string(r.URL), "rediss:") {
		for _, s := range settings {
			if strings.HasPrefix(s.Key, "redis.tls_") && s.value(&c).String() != "" {
				return nil, invalidf("%s = %q: only for TLS; write redis.url with rediss://", s.Key, s.value(&c))
			}
		}
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.TLSServerName}
	if r.TLSCAFile != "" {
		pool, err := readAuthorities(r.TLSCAFile)
		if err != nil {
			return nil, invalidf("redis.tls_ca_file = %q: %w", r.TLSCAFile, err)
		}
		t.RootCAs = pool
	}
	switch {
	case r.TLSCertFile == "" && r.TLSKeyFile == "":
		return t, nil
	case r.TLSKeyFile == "":
		return nil, invalidf("redis.tls_cert_file = %q: redis.tls_key_file is missing", r.TLSCertFile)
	case r.TLSCertFile == "":
		return nil, invalidf("redis.tls_key_file = %q: redis.tls_cert_file is missing", r.TLSKeyFile)
	}
	pair, err := readPair("redis", r.TLSCertFile, r.TLSKeyFile)
	if err != nil {
		return nil, err
	}
	t.Certificates = []tls.Certificate{pair}
	return t, nil
}

func readAuthorities(name string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, fileReason(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("there is no certificate in PEM form in it")
	}
	return pool, nil
}

// readPair reads the certificate and the key of a section.
func readPair(section, certFile, keyFile string) (tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, invalidf("%s.tls_cert_file = %q: %w", section, certFile, fileReason(err))
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, invalidf("%s.tls_key_file = %q: %w", section, keyFile, fileReason(err))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, invalidf(
			"%s.tls_cert_file = %q, %[1]s.tls_key_file = %[3]q: %[4]w", section, certFile, keyFile, err)
	}
	return pair, nil
}
