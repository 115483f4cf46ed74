// The Go peer: net/http/httputil.ReverseProxy, which kube-aggregator's forwarding is built on, and nothing else:
// no authentication, no authorization. Settings that would slow it down are set in its favour: it keeps as many idle
// connections as it has clients, and does not ask for compression.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
)

func main() {
	backend := flag.String("backend", "", "host:port of the backend")
	streams := flag.String("streams", "", "host:port of the backend for streams")
	prefix := flag.String("prefix", "", "paths that begin so go to the backend for streams")
	certs := flag.String("tls", "", "directory of certificates; without it both sides are plain HTTP")
	name := flag.String("name", "", "the name in the backend's certificate")
	flag.Parse()

	transport := &http.Transport{MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, DisableCompression: true}
	scheme := "http"
	if *certs != "" {
		scheme = "https"
		transport.TLSClientConfig = client(*certs, *name)
	}
	first := &url.URL{Scheme: scheme, Host: *backend}
	second := &url.URL{Scheme: scheme, Host: *streams}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		Rewrite: func(request *httputil.ProxyRequest) {
			if strings.HasPrefix(request.In.URL.Path, *prefix) {
				request.SetURL(second)
			} else {
				request.SetURL(first)
			}
			request.SetXForwarded()
		},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{Handler: proxy, ErrorLog: log.New(io.Discard, "", 0)}
	if *certs != "" {
		check(server.ServeTLS(listener, *certs+"/front.crt", *certs+"/front.key"))
	} else {
		check(server.Serve(listener))
	}
}

func client(directory, name string) *tls.Config {
	pem, err := os.ReadFile(directory + "/back-ca.crt")
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(directory+"/front-proxy.crt", directory+"/front-proxy.key")
	check(err)
	return &tls.Config{RootCAs: roots, ServerName: name, Certificates: []tls.Certificate{pair}}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
