# HTTPS with HTTP/3 to the caller, and a rate limit before anything of ours runs. The API is then reached through it
# alone; Cloud Scheduler, inside, still calls the run.app address.

locals {
  load_balancers = var.load_balancer == null ? 0 : 1
}

resource "google_compute_global_address" "api" {
  count = local.load_balancers

  project    = var.project_id
  name       = "${var.name}-api"
  depends_on = [google_project_service.enabled]
}

resource "google_compute_region_network_endpoint_group" "api" {
  count = local.load_balancers

  project               = var.project_id
  region                = var.region
  name                  = "${var.name}-api"
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = google_cloud_run_v2_service.api.name
  }
}

resource "google_compute_security_policy" "api" {
  #checkov:skip=CKV_GCP_73: nothing here is Java, and nothing logs by Log4j
  count = local.load_balancers

  project    = var.project_id
  name       = "${var.name}-api"
  type       = "CLOUD_ARMOR"
  depends_on = [google_project_service.enabled]

  rule {
    description = "What is for Google's services and for operators is not for the internet."
    priority    = 100
    action      = "deny(403)"
    match {
      expr {
        expression = "request.path.startsWith('/internal/') || request.path == '/metrics'"
      }
    }
  }

  rule {
    description = "So many requests a minute an address."
    priority    = 1000
    action      = "throttle"
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = var.load_balancer.requests_per_minute_per_ip
        interval_sec = 60
      }
    }
  }

  rule {
    description = "The rule that every policy ends with."
    priority    = 2147483647
    action      = "allow"
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
  }
}

resource "google_compute_backend_service" "api" {
  count = local.load_balancers

  project               = var.project_id
  name                  = "${var.name}-api"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = google_compute_security_policy.api[0].id

  backend {
    group = google_compute_region_network_endpoint_group.api[0].id
  }

  log_config {
    enable = false # Cloud Run logs every request, and links would be in these
  }
}

resource "google_compute_url_map" "api" {
  count = local.load_balancers

  project         = var.project_id
  name            = "${var.name}-api"
  default_service = google_compute_backend_service.api[0].id
}

resource "google_compute_managed_ssl_certificate" "api" {
  count = local.load_balancers

  project = var.project_id
  # A certificate cannot be changed, and its successor needs another name.
  name = "${var.name}-${substr(sha1(var.load_balancer.domain), 0, 8)}"

  managed {
    domains = [var.load_balancer.domain]
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_project_service.enabled]
}

resource "google_compute_ssl_policy" "api" {
  count = local.load_balancers

  project         = var.project_id
  name            = "${var.name}-api"
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"
  depends_on      = [google_project_service.enabled]
}

resource "google_compute_target_https_proxy" "api" {
  count = local.load_balancers

  project          = var.project_id
  name             = "${var.name}-api"
  url_map          = google_compute_url_map.api[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.api[0].id]
  ssl_policy       = google_compute_ssl_policy.api[0].id
  quic_override    = "ENABLE"
}

resource "google_compute_global_forwarding_rule" "https" {
  count = local.load_balancers

  project               = var.project_id
  name                  = "${var.name}-https"
  labels                = local.labels
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.api[0].id
  ip_protocol           = "TCP" # QUIC's UDP comes with it
  port_range            = "443"
  target                = google_compute_target_https_proxy.api[0].id
}
