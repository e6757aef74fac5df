# What is watched, and whether whoever is woken is told what to do.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project_id      = "demo-promptreel"
  billing_account = "012345-6789AB-CDEF01"
  alert_emails    = ["ada@example.com", "bob@example.com"]
  images = {
    api        = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/api@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    gpu_worker = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/gpu-worker@sha256:2222222222222222222222222222222222222222222222222222222222222222"
  }
}

run "every_line_metric_is_of_this_installation_alone" {
  command = plan

  assert {
    condition     = toset(keys(google_logging_metric.line)) == toset(keys(local.log_metrics))
    error_message = "Each metric of log_metrics.yaml is created."
  }
  assert {
    condition     = alltrue([for metric in google_logging_metric.line : startswith(metric.filter, "(resource.labels.service_name=~\"^promptreel-[a-z-]+$\" OR resource.labels.worker_pool_name=~\"^promptreel-[a-z-]+$\") AND ")])
    error_message = "Other services of the project may print such lines, too."
  }
  assert {
    condition = alltrue([
      for metric in google_logging_metric.line :
      (metric.metric_descriptor[0].value_type == "DISTRIBUTION") == (metric.value_extractor != null)
    ])
    error_message = "What is measured is a distribution, what is counted is not."
  }
  assert {
    condition = alltrue([
      for metric in google_logging_metric.line :
      join(" ", sort([for label in metric.metric_descriptor[0].labels : label.key])) == join(" ", sort(keys(metric.label_extractors == null ? {} : metric.label_extractors)))
    ])
    error_message = "Each label has an extractor, and the other way round."
  }
}

run "every_service_level_has_all_its_alerts" {
  command = plan

  assert {
    condition     = length(google_monitoring_alert_policy.burn_rate) == length(local.service_levels) * length(local.burn_rates)
    error_message = "Each service level burns fast, slowly and steadily."
  }
  assert {
    condition = alltrue([
      for policy in google_monitoring_alert_policy.burn_rate :
      policy.combiner == "AND" && length(policy.conditions) == 2
    ])
    error_message = "A long window alone stays loud for hours, a short one alone fires for nothing."
  }
  assert {
    condition     = [for slo in google_monitoring_slo.generation : slo.request_based_sli[0].distribution_cut[0].range[0].max] == [60, 90]
    error_message = "p95 is 60 s, p99 is 90 s."
  }
}

run "whoever_is_told_is_told_what_to_do" {
  command = plan

  assert {
    condition = alltrue([
      for policy in concat(values(google_monitoring_alert_policy.burn_rate), [
        google_monitoring_alert_policy.api_errors,
        google_monitoring_alert_policy.cost,
        google_monitoring_alert_policy.dead_letters,
        google_monitoring_alert_policy.no_worker_ready,
        google_monitoring_alert_policy.queue_age,
        google_monitoring_alert_policy.render_process_ends,
      ]) : can(regex("https://\\S+/operate\\.md#[a-z-]+$", policy.documentation[0].content))
    ])
    error_message = "Each alert links to its section of the runbook."
  }
  assert {
    condition     = length(google_monitoring_notification_channel.email) == 2
    error_message = "Each address is a channel."
  }
}

run "the_dashboard_is_about_this_installation" {
  command = plan

  variables {
    name = "clips-eu"
  }

  assert {
    condition     = jsondecode(google_monitoring_dashboard.promptreel.dashboard_json).displayName == "clips-eu"
    error_message = "Two installations in one project have a dashboard each."
  }
  assert {
    condition     = strcontains(google_monitoring_dashboard.promptreel.dashboard_json, "logging_googleapis_com:user_clips_eu_jobs_ended")
    error_message = "PromQL knows no hyphens in names of metrics."
  }
  assert {
    condition     = strcontains(google_monitoring_dashboard.promptreel.dashboard_json, "$${metric.labels.state}")
    error_message = "What Cloud Monitoring fills in is left as it is."
  }
}

run "a_runbook_is_a_page" {
  command = plan

  variables {
    runbook_url = "https://example.com/operate.md#top"
  }

  expect_failures = [var.runbook_url]
}
