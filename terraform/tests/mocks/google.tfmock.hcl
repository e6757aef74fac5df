# A project as Google would describe it, and accounts that are known by their names.

mock_data "google_project" {
  defaults = {
    number = "123456789012"
  }
}

override_resource {
  target = google_service_account.api
  values = {
    email  = "promptreel-api@demo-promptreel.iam.gserviceaccount.com"
    member = "serviceAccount:promptreel-api@demo-promptreel.iam.gserviceaccount.com"
    name   = "projects/demo-promptreel/serviceAccounts/promptreel-api@demo-promptreel.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.scheduler
  values = {
    email  = "promptreel-scheduler@demo-promptreel.iam.gserviceaccount.com"
    member = "serviceAccount:promptreel-scheduler@demo-promptreel.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.push
  values = {
    email  = "promptreel-push@demo-promptreel.iam.gserviceaccount.com"
    member = "serviceAccount:promptreel-push@demo-promptreel.iam.gserviceaccount.com"
  }
}
