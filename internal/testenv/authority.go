package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates that only tests trust.
type Authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

// Certificate is a certificate with its key, both in PEM form.
type Certificate struct{ Cert, Key []byte }

// NewAuthority makes an authority of that name.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t}
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	}
	a.key = a.newKey()
	a.pem = a.sign(a.cert, a.key)
	return a
}

// Issue makes a certificate for a server at 127.0.0.1 or for the client of that name, valid
// until then.
func (a *Authority) Issue(name string, until time.Time) Certificate {
	return a.issue(name, until, net.IPv4(127, 0, 0, 1))
}

// IssueNamed makes a certificate for a server of that name, whatever its address.
func (a *Authority) IssueNamed(name string) Certificate {
	return a.issue(name, time.Now().Add(time.Hour))
}

func (a *Authority) issue(name string, until time.Time, addresses ...net.IP) Certificate {
	a.t.Helper()
	key := a.newKey()
	cert := a.sign(&x509.Certificate{
		Subject:  pkix.Name{CommonName: name},
		NotAfter: until, DNSNames: []string{name}, IPAddresses: addresses,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	return Certificate{Cert: cert, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

// File writes the authority's own certificate to a file of this test and returns its name.
func (a *Authority) File() string {
	a.t.Helper()
	name := filepath.Join(a.t.TempDir(), "ca.pem")
	a.must(os.WriteFile(name, a.pem, 0o600))
	return name
}

// Files writes the certificate and its key to files of this test and returns their names.
func (c Certificate) Files(t testing.TB) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, content := range map[string][]byte{cert: c.Cert, key: c.Key} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	return key
}

// sign completes the certificate and returns it in PEM form.
func (a *Authority) sign(c *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	a.must(err)
	c.SerialNumber, c.NotBefore = serial, time.Now().Add(-24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	a.must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (a *Authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}
