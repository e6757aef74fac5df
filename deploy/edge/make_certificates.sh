#!/usr/bin/env bash
# Makes a certificate authority for development, and certificates that it issues:
#
#   deploy/edge/make_certificates.sh FOLDER NAME...
#
# FOLDER gets ca.pem and ca.key, and of each NAME (a host name or an address) NAME.pem, with the authority's behind
# its own, and NAME.key. A second call with other names uses the authority that is there. Nothing is overwritten.
# For names on the internet, use a public authority instead: clients trust those already.
set -euo pipefail

ca_days=3650
leaf_days=90 # browsers refuse more than 398

if [ $# -lt 2 ]; then
  echo "usage: make_certificates.sh FOLDER NAME..." >&2
  exit 2
fi
folder=$1
shift
umask 077 # keys are for their owner alone
mkdir -p "$folder"

for name in "$@"; do
  case $name in
    ca | *[!A-Za-z0-9.:-]* | -* | "")
      echo "$name is no name to issue a certificate for" >&2
      exit 2
      ;;
  esac
  for file in "$folder/$name.pem" "$folder/$name.key"; do
    if [ -e "$file" ]; then
      echo "$file is there already; remove it to have another" >&2
      exit 1
    fi
  done
done

if [ ! -e "$folder/ca.key" ] && [ ! -e "$folder/ca.pem" ]; then
  openssl ecparam -name prime256v1 -genkey -noout -out "$folder/ca.key"
  openssl req -x509 -new -key "$folder/ca.key" -days "$ca_days" -subj "/CN=Promptreel development CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -out "$folder/ca.pem"
  echo "$folder/ca.pem: the authority; clients are to trust it"
fi

for name in "$@"; do
  case $name in
    *:* | *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
  esac
  case $name in *:*) kind=IP ;; esac
  extensions=$(mktemp)
  request=$(mktemp)
  trap 'rm -f "$extensions" "$request"' EXIT
  cat >"$extensions" <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = $kind:$name
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END
  openssl ecparam -name prime256v1 -genkey -noout -out "$folder/$name.key"
  openssl req -new -key "$folder/$name.key" -subj "/CN=$name" -out "$request"
  openssl x509 -req -in "$request" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -days "$leaf_days" \
    -set_serial "0x$(openssl rand -hex 16)" -extfile "$extensions" -out "$folder/$name.pem" 2>/dev/null
  cat "$folder/ca.pem" >>"$folder/$name.pem"
  rm -f "$extensions" "$request"
  chmod 644 "$folder/$name.pem"
  echo "$folder/$name.pem, $name.key: for $kind:$name, $leaf_days days"
done
chmod 644 "$folder/ca.pem"
