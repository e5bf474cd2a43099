package loopback

import (
	"fmt"
	"net/url"
	"os"

	"k8s.io/apimachinery/pkg/util/rand"
)

// nginx is a configuration of nginx: directories, the log, and the servers.
const nginx = `
daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr error;
%[2]s
events {}
http {
  log_format json escape=json '{"auth":"$auth","method":"$request_method","uri":"$request_uri","status":$status}';
  map $http_authorization $auth {
    default other;
    "" "";
    "~^Basic " Basic;
    "~^Bearer " Bearer;
  }
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_buffering off;
  proxy_ssl_trusted_certificate %[3]s;
  proxy_ssl_verify on;
  proxy_ssl_name localhost;
  ssl_certificate %[4]s;
  ssl_certificate_key %[5]s;
  %[6]s
}
`

// redirecting sends who asks for a blob, and has the password, to the object
// storage, which serves the file that Distribution has written to whoever asks.
const redirecting = `
  server {
    listen 127.0.0.1:%[1]d ssl;
    access_log %[5]s json;
    location / {
      proxy_pass %[2]s;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto https;
    }
    location ~ "^/v2/(.+)/blobs/(sha256:[0-9a-f]{64})$" {
      error_page 418 = @storage;
      if ($request_method = GET) { return 418; }
      proxy_pass %[2]s;
      proxy_set_header Host $http_host;
    }
    location @storage {
      auth_basic "the site";
      auth_basic_user_file %[3]s;
      rewrite "/blobs/(sha256:[0-9a-f]{64})$" /stored/$1 last;
    }
    location /stored/ {
      internal;
      auth_basic "the site";
      auth_basic_user_file %[3]s;
      rewrite "^/stored/(.*)$" https://localhost:%[4]d/bucket/$1?X-Amz-Signature=c2lnbmVk%%2F%%2B%%3D break;
    }
  }
  server {
    listen 127.0.0.1:%[4]d ssl;
    access_log %[6]s json;
    location ~ "^/bucket/sha256:(([0-9a-f]{2})[0-9a-f]{62})$" {
      alias %[7]s/docker/registry/v2/blobs/sha256/$2/$1/data;
      default_type application/octet-stream;
    }
  }
`

// Redirecting starts Distribution with a password, behind an nginx that redirects who
// asks for a blob to an object storage on another host. It returns what that has seen.
func (s *Site) Redirecting() (r *Registry, storage func() []Request) {
	s.Helper()
	behind := s.Basic()
	front, bucket := s.Port(), s.Port()
	logs := [2]string{s.Path(rand.String(8) + ".log"), s.Path(rand.String(8) + ".log")}
	s.nginx(front, fmt.Sprintf(redirecting, front, behind.Address, behind.passwords, bucket, logs[0], logs[1], behind.storage))
	r = &Registry{Address: named(front), Username: behind.Username, Password: behind.Password}
	r.Seen = func() []Request { return s.seenIn(logs[0]) }
	return r, func() []Request { return s.seenIn(logs[1]) }
}

// artifactory serves a registry, and its token service, below a path.
const artifactory = `
  map $upstream_http_link $link_below {
    "~^</v2/(?<rest>.*)$" "<%[2]s/v2/$rest";
  }
  server {
    listen 127.0.0.1:%[1]d ssl;
    access_log %[5]s json;
    location %[2]s/v2/ {
      proxy_pass %[3]s/v2/;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto https;
      proxy_hide_header Link;
      add_header Link $link_below;
      proxy_redirect ~^https://[^/]+/v2/(.*)$ https://$http_host%[2]s/v2/$1;
    }
    location = %[2]s/v2/token {
      proxy_pass %[4]s;
    }
  }
`

// artifactoryPath is that of a repository in Artifactory by the repository path method.
const artifactoryPath = "/artifactory/api/docker/repo"

// Artifactory starts Distribution with a token service, behind an nginx that has both
// below a path, as Artifactory has them.
func (s *Site) Artifactory() *Registry {
	s.Helper()
	front, log := s.Port(), s.Path(rand.String(8)+".log")
	address := named(front) + artifactoryPath
	r := s.Token(address + "/v2/token")
	s.nginx(front, fmt.Sprintf(artifactory, front, artifactoryPath, r.Address, r.tokens, log))
	r.Address = address
	r.Seen = func() []Request { return s.seenIn(log) }
	return r
}

// nginx starts nginx with servers, one of them at a port.
func (s *Site) nginx(port int, servers string) {
	s.Helper()
	program := s.Program("", "nginx", "as root, run: apt-get install nginx-light")
	dir := s.Path("nginx-" + rand.String(8))
	certificate, key := s.Authority.IssueFiles(rand.String(8))
	file := s.Write(dir[len(s.Dir)+1:]+"/nginx.conf", fmt.Sprintf(nginx, dir, asOneself(), s.Authority.File, certificate, key, servers))
	process := s.Start("nginx", program, "-p", dir, "-c", file)
	s.answers(process, (&url.URL{Scheme: "https", Host: local(port), Path: "/"}).String())
}

// asOneself lets the worker be whom the test is: root's would become nobody, who may not read the test's files.
func asOneself() string {
	if os.Geteuid() == 0 {
		return "user root;"
	}
	return ""
}

func (s *Site) seenIn(log string) []Request {
	s.Helper()
	content, err := os.ReadFile(log)
	s.OK(err)
	return seen(string(content))
}
