# Only where promptreel.yaml asks for it: configuration = { telemetry = { traces = "cloud_trace" } }.

locals {
  keeps_traces = try(var.configuration.telemetry.traces, "off") == "cloud_trace"
}

resource "google_project_iam_member" "sends_traces" {
  for_each = { for name, member in merge(local.job_handlers, { courier = google_service_account.courier.member }) : name => member if local.keeps_traces }

  project = var.project_id
  role    = "roles/telemetry.tracesWriter"
  member  = each.value
}
